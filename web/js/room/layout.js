// Who is shown where: the stage, a page of tiles, and names; pure.

/** @import { RoomKind, UserInfo } from "../protocol/messages.js" */

/** Tiles on one page. */
export const TILES_A_PAGE = 6;
/** Shared screens shown at a time. */
const MOST_SCREENS = 2;

/**
 * @typedef {object} LayoutInput
 * @property {UserInfo} me
 * @property {UserInfo[]} others in order of arrival
 * @property {RoomKind} kind
 * @property {number} page wished, from 0
 * @property {string | null} pinned participant to be shown large
 */

/**
 * @typedef {object} Layout
 * @property {UserInfo[]} screens others whose screen is shown, at most two
 * @property {UserInfo | null} spotlight another one shown large
 * @property {UserInfo[]} tiles of this page, oneself first
 * @property {number} page from 0
 * @property {number} pages at least 1
 * @property {UserInfo[]} audience shown by name alone (seminar)
 * @property {UserInfo[]} beyond tiles of other pages
 */

/**
 * @param {LayoutInput} input
 * @returns {Layout}
 */
export function layOut({ me, others, kind, page, pinned }) {
  const hostsFirst = [...others].sort((a, b) => rank(a) - rank(b));
  const everyone = [me, ...hostsFirst];
  const seen = kind === "meeting" ? everyone : everyone.filter((user) => user.rights.may_publish);
  const audience = kind === "meeting" ? [] : everyone.filter((user) => !user.rights.may_publish);
  const screens = hostsFirst.filter((user) => user.publications.includes("screen")).slice(0, MOST_SCREENS);
  const spotlight = screens.length > 0 ? null : spotlightOf(seen, me, kind, pinned);
  const tiled = seen.filter((user) => user !== spotlight);
  const pages = Math.max(1, Math.ceil(tiled.length / TILES_A_PAGE));
  const current = Math.min(Math.max(0, page), pages - 1);
  const first = current * TILES_A_PAGE;
  const tiles = tiled.slice(first, first + TILES_A_PAGE);
  return {
    screens,
    spotlight,
    tiles,
    page: current,
    pages,
    audience,
    beyond: tiled.filter((user) => !tiles.includes(user)),
  };
}

/**
 * The pinned one; in a seminar without a pin the presenter, when there is exactly one with a camera on.
 *
 * @param {UserInfo[]} seen
 * @param {UserInfo} me
 * @param {RoomKind} kind
 * @param {string | null} pinned
 * @returns {UserInfo | null}
 */
function spotlightOf(seen, me, kind, pinned) {
  const choices = seen.filter((user) => user !== me);
  const chosen = choices.find((user) => user.participant === pinned);
  if (chosen) return chosen;
  if (kind !== "seminar") return null;
  const presenting = choices.filter((user) => user.publications.includes("camera"));
  return presenting.length === 1 ? presenting[0] : null;
}

/**
 * @param {UserInfo} user
 * @returns {number}
 */
function rank(user) {
  return { host: 0, cohost: 1, student: 2 }[user.role];
}
