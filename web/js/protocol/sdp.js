// The one change the page makes to its own offer; pure.

/**
 * Asks for retransmission of lost voice: adds `a=rtcp-fb:<opus> nack` to every Opus line that lacks it.
 * Chromium answers and honours it but never offers it by itself.
 *
 * @param {string} sdp an offer with CRLF line ends
 * @returns {string}
 */
export function withOpusNack(sdp) {
  return sdp
    .split(/(?=^m=)/m)
    .map((section) => {
      if (!section.startsWith("m=audio")) return section;
      const payloadType = /^a=rtpmap:(\d+) opus\/48000/im.exec(section)?.[1];
      if (payloadType === undefined) return section;
      const wish = `a=rtcp-fb:${payloadType} nack`;
      if (section.includes(`${wish}\r\n`)) return section;
      return section.replace(new RegExp(`^a=rtpmap:${payloadType} .*\r\n`, "m"), (line) => `${line}${wish}\r\n`);
    })
    .join("");
}
