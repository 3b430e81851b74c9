// The lines of chat as they shall be shown; pure.

/** @import { ChatLine } from "../protocol/messages.js" */

/** Most characters of one line; the server refuses longer ones. */
export const MOST_CHAT_CHARACTERS = 2_000;

/** @typedef {{nonce: string, text: string, failed: boolean}} PendingLine */

/** Accepted lines in the server's order without repetition, and own lines that wait for it. */
export class ChatLog {
  constructor() {
    /** @type {Map<number, ChatLine>} */
    this.byId = new Map();
    /** @type {Map<string, PendingLine>} */
    this.pending = new Map();
    this.unread = 0;
    this.open = false;
  }

  /** @returns {ChatLine[]} oldest first */
  lines() {
    return [...this.byId.values()].sort((a, b) => a.id - b.id);
  }

  /**
   * @param {ChatLine} line
   * @param {boolean} own
   */
  add(line, own) {
    if (line.nonce !== undefined) this.pending.delete(line.nonce);
    if (this.byId.has(line.id)) return;
    this.byId.set(line.id, line);
    if (!own && !this.open) this.unread += 1;
  }

  /** @param {ChatLine[]} lines */
  addHistory(lines) {
    for (const line of lines) {
      if (line.nonce !== undefined) this.pending.delete(line.nonce);
      this.byId.set(line.id, line);
    }
  }

  /**
   * @param {string} nonce
   * @param {string} text
   */
  wait(nonce, text) {
    this.pending.set(nonce, { nonce, text, failed: false });
  }

  /** @param {string} nonce */
  fail(nonce) {
    const line = this.pending.get(nonce);
    if (line) line.failed = true;
  }

  /** @param {boolean} open whether the person is reading */
  setOpen(open) {
    this.open = open;
    if (open) this.unread = 0;
  }
}
