// A person in Firefox, driven over WebDriver BiDi: what playwright cannot do with Debian's own Firefox.

import { networkInterfaces } from "node:os";

import puppeteer from "puppeteer-core";

import { PATIENCE_MS, Person } from "./person.js";

/** Firefox's fake devices are a moving picture and a tone. */
const PREFERENCES = {
  "media.navigator.streams.fake": true,
  "media.navigator.permission.disabled": true,
  "media.autoplay.default": 0,
  "media.autoplay.blocking_policy": 0,
  // Where there is no other interface.
  "media.peerconnection.ice.loopback": true,
  "media.peerconnection.ice.obfuscate_host_addresses": false,
  "intl.accept_languages": "en-GB",
};

/**
 * Settings of a server that Firefox can reach: to loopback it does not go from a machine with another address, and packets
 * to one's own address stay inside all the same.
 */
export function reachableSettings() {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const own = addresses.filter((address) => address.family === "IPv4" && !address.internal).map((address) => address.address);
  return { "media-addresses": ["127.0.0.1", ...own].join(",") };
}

/** @returns {Promise<import("puppeteer-core").Browser>} */
export function openFirefox() {
  return puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX_BIN ?? "/usr/bin/firefox-esr",
    headless: true,
    extraPrefsFirefox: PREFERENCES,
  });
}

/** Somebody in a class, in Firefox. */
export class FirefoxPerson extends Person {
  /**
   * Opens the class page and joins with camera and microphone.
   *
   * @param {import("puppeteer-core").Browser} browser
   * @param {import("./server.js").Server} server
   * @param {{number: string}} room
   * @param {string} name
   */
  static async meet(browser, server, room, name) {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    await page.goto(`${server.url}/class/${room.number}`);
    const part = (/** @type {string} */ testid) => page.locator(`[data-testid="${testid}"]`);
    for (const device of ["camera", "microphone"]) {
      await page.waitForSelector(`[data-testid=preview-${device}][aria-pressed=true]`);
    }
    await part("name").fill(name);
    await part("join").click();
    // Of a page it needs what both drivers have alike: `evaluate` and `pageerror`.
    const person = new FirefoxPerson(/** @type {any} */ (page), /** @type {any} */ (page), name);
    await person.until("a seat and media", (state) => state.phase === "in" && state.media === "connected");
    return person;
  }
}
