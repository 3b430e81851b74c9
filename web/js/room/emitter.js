// Tells those who asked that a part of the state changed.

/**
 * @template {string} Topic
 */
export class Emitter {
  constructor() {
    /** @type {Map<Topic, Set<(detail?: any) => void>>} */
    this.listeners = new Map();
  }

  /**
   * @param {Topic} topic
   * @param {(detail?: any) => void} listener
   */
  on(topic, listener) {
    const set = this.listeners.get(topic) ?? new Set();
    set.add(listener);
    this.listeners.set(topic, set);
  }

  /**
   * @param {Topic} topic
   * @param {any} [detail]
   */
  emit(topic, detail) {
    for (const listener of this.listeners.get(topic) ?? []) listener(detail);
  }
}
