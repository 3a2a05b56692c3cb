// SPDX-License-Identifier: Apache-2.0
/** Calls `listener` whenever TensorBoard reloads its data (its timer or its button); nothing happens outside TensorBoard. */
export function onReload(listener: () => void): void {
  if (parent === window) return;
  const { port1, port2 } = new MessageChannel();
  port1.addEventListener("message", ({ data }) => {
    const message = (typeof data === "string" ? JSON.parse(data) : data) as { type?: string; id?: number };
    if (message.type !== "experimental.DataReloaded") return;
    listener();
    port1.postMessage(
      JSON.stringify({ type: message.type, id: message.id, payload: null, error: null, isReply: true }),
    );
  });
  port1.start();
  parent.postMessage("experimental.bootstrap", location.origin, [port2]);
}
