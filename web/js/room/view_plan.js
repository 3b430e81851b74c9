// Which slot shall carry which picture; pure.

/** @import { Source, ViewSlot } from "../protocol/messages.js" */
/** @import { SlotMids } from "../protocol/connection.js" */
/** @import { Layout } from "./layout.js" */

/** @typedef {{width: number, height: number}} Size in CSS pixels */
/** @typedef {{page: Size, spotlight: Size, screen: Size}} Sizes */

/**
 * Whoever stays in view stays in their slot, so that paging and leaving disturb nobody else's picture.
 *
 * @param {Layout} layout
 * @param {string} me
 * @param {SlotMids} mids
 * @param {Sizes} sizes
 * @param {ViewSlot[]} previous the plan before this one
 * @returns {ViewSlot[]}
 */
export function planView(layout, me, mids, sizes, previous) {
  const cameras = layout.tiles
    .filter((user) => user.participant !== me && user.publications.includes("camera"))
    .map((user) => user.participant);
  const spotlight = layout.spotlight?.publications.includes("camera") ? [layout.spotlight.participant] : [];
  const screens = layout.screens.map((user) => user.participant);
  return [
    ...assign(cameras, mids.page, "camera", sizes.page, previous),
    ...assign(spotlight, [mids.spotlight], "camera", sizes.spotlight, previous),
    ...assign(screens, mids.screens, "screen", sizes.screen, previous),
  ];
}

/**
 * @param {string[]} participants
 * @param {string[]} mids
 * @param {Source} source
 * @param {Size} size
 * @param {ViewSlot[]} previous
 * @returns {ViewSlot[]}
 */
function assign(participants, mids, source, size, previous) {
  /** @type {Map<string, string>} */
  const held = new Map();
  for (const slot of previous) {
    if (slot.source === source && mids.includes(slot.mid) && participants.includes(slot.participant)) {
      held.set(slot.participant, slot.mid);
    }
  }
  const free = mids.filter((mid) => ![...held.values()].includes(mid));
  return participants.flatMap((participant) => {
    const mid = held.get(participant) ?? free.shift();
    return mid ? [{ mid, participant, source, width: bounded(size.width), height: bounded(size.height) }] : [];
  });
}

/**
 * Sizes travel as whole numbers of 16 bits, in steps of 16 so that a resized window does not send a view for every pixel.
 *
 * @param {number} pixels
 * @returns {number}
 */
function bounded(pixels) {
  return Math.min(8192, Math.max(0, Math.ceil(pixels / 16) * 16));
}
