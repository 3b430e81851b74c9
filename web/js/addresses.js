// The addresses of the pages.

/**
 * @param {string} number
 * @returns {string}
 */
export function classAddress(number) {
  return `/class/${encodeURIComponent(number)}`;
}

/**
 * @param {string} number
 * @returns {string}
 */
export function recordingsAddress(number) {
  return `/recordings/${encodeURIComponent(number)}`;
}

/**
 * The room's number in the address of this page.
 *
 * @returns {string}
 */
export function numberHere() {
  try {
    return decodeURIComponent(location.pathname.split("/")[2] ?? "").toLowerCase();
  } catch {
    return "";
  }
}

/**
 * The token of a host link, taken out of the address at once so that it stays in no history.
 *
 * @returns {string | null}
 */
export function takeHostToken() {
  const token = /^#host=([0-9a-z]+)$/i.exec(location.hash)?.[1] ?? null;
  if (location.hash) history.replaceState(null, "", location.pathname);
  return token;
}
