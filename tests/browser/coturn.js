// Debian's TURN server as a process of its own on loopback, with a shared secret.

import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { until } from "./person.js";

const HOST = "127.0.0.1";
const SECRET = "a secret of both";

/** A running coturn. */
export class Coturn {
  static async start() {
    const folder = await mkdtemp(join(tmpdir(), "seodang-coturn-"));
    const coturn = new Coturn(folder, await freePort());
    await until("coturn listens", () => coturn.#listens());
    return coturn;
  }

  /**
   * @param {string} folder
   * @param {number} port
   */
  constructor(folder, port) {
    this.folder = folder;
    this.port = port;
    const flags = {
      "listening-ip": HOST,
      "relay-ip": HOST,
      "listening-port": String(port),
      realm: "seodang.test",
      "static-auth-secret": SECRET,
      pidfile: join(folder, "pid"),
      userdb: join(folder, "users"),
      "log-file": join(folder, "log"),
    };
    const switches = ["use-auth-secret", "allow-loopback-peers", "no-cli", "no-tls", "no-dtls", "no-rfc5780", "no-stdout-log", "simple-log"];
    // -n: nothing of the machine's own configuration.
    const args = ["-n", ...switches.map((name) => `--${name}`), ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])];
    this.process = spawn("turnserver", args, { stdio: "ignore" });
  }

  /** Settings of a server that lends it to its participants. */
  get settings() {
    return { "turn-urls": `${this.#url}?transport=udp,${this.#url}?transport=tcp`, "turn-secret": SECRET };
  }

  get #url() {
    return `turn:${HOST}:${this.port}`;
  }

  /** @returns {Promise<boolean>} */
  #listens() {
    return new Promise((resolve) => {
      const socket = connect(this.port, HOST, () => (socket.destroy(), resolve(true)));
      socket.on("error", () => resolve(false));
    });
  }

  async stop() {
    this.process.kill("SIGKILL");
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, "exit");
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** @returns {Promise<number>} */
async function freePort() {
  const socket = createSocket("udp4");
  socket.bind(0, HOST);
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  return port;
}
