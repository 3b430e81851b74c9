//! Offers as browsers make them.

/// The stack's offer as a page of ours would make it: NACK for Opus, and nothing on a receiving line that it does not need. A
/// message of the protocol has room for thirty cameras and thirty microphones that way.
pub(super) fn as_browsers_offer(sdp: &str) -> String {
    let mut sections = vec![String::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(String::new());
        }
        let section = sections.last_mut().expect("there is a section from the start");
        section.push_str(line);
        section.push_str("\r\n");
        if let Some((payload_type, _)) = line
            .strip_prefix("a=rtpmap:")
            .and_then(|map| map.split_once(" opus/"))
        {
            section.push_str(&format!("a=rtcp-fb:{payload_type} nack\r\n"));
        }
    }
    let superfluous = [
        "a=extmap:",
        "a=candidate:",
        "a=end-of-candidates",
        "a=msid",
        "a=ssrc",
    ];
    let mut offer = String::with_capacity(sdp.len());
    for section in sections {
        let receives = section.lines().any(|line| line == "a=recvonly");
        for line in section.lines() {
            if !(receives && superfluous.iter().any(|start| line.starts_with(start))) {
                offer.push_str(line);
                offer.push_str("\r\n");
            }
        }
    }
    offer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sending_lines_keep_what_receiving_lines_lose() {
        let sdp = "v=0\r\nm=audio 9 X 111\r\na=extmap:1 level\r\na=rtpmap:111 opus/48000/2\r\na=sendonly\r\n\
                   m=audio 9 X 111\r\na=extmap:1 level\r\na=rtpmap:111 opus/48000/2\r\na=recvonly\r\n";
        assert_eq!(
            as_browsers_offer(sdp),
            "v=0\r\nm=audio 9 X 111\r\na=extmap:1 level\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack\r\n\
             a=sendonly\r\nm=audio 9 X 111\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack\r\na=recvonly\r\n"
        );
    }
}
