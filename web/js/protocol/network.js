// Says when the way to the network may have become another one.

/**
 * Calls back when the browser is online again, or on another kind of network (where it tells: phones and tablets).
 *
 * @param {() => void} onChange
 * @returns {() => void} stops it
 */
export function watchNetwork(onChange) {
  /** @type {(EventTarget & {type?: string}) | undefined} */
  const connection = Reflect.get(navigator, "connection");
  let type = connection?.type;
  const compare = () => {
    // Estimates of speed change all the time, and mean nothing here.
    if (connection?.type === type) return;
    type = connection?.type;
    onChange();
  };
  globalThis.addEventListener("online", onChange);
  connection?.addEventListener("change", compare);
  return () => {
    globalThis.removeEventListener("online", onChange);
    connection?.removeEventListener("change", compare);
  };
}
