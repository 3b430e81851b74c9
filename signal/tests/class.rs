//! A class over the real server: HTTP, WebSocket, database; without media.

mod class {
    pub(crate) mod harness;
}

use class::harness::{House, Seat, text};
use serde_json::json;

#[tokio::test]
async fn a_class_meets_and_talks() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let mut teacher = Seat::host(&house, &room, "김선생").await;
    assert_eq!(teacher.info["you"]["role"], "host");
    let mut student = Seat::join(&house, &room, "민수").await;
    assert_eq!(student.info["you"]["role"], "student");
    assert_eq!(student.users[0]["name"], "김선생");
    let enter = teacher.next("user_enter").await;
    assert_eq!(enter["user"]["name"], "민수");
    assert_eq!(
        enter["user"]["states"]["ice"], "new",
        "hosts see all three states"
    );
    assert_eq!(
        student.users[0]["states"],
        json!({"signaling": "connected"}),
        "students see one"
    );
    student
        .send(json!({"type": "chat", "text": "안녕하세요", "nonce": "n1"}))
        .await;
    let own = student.next("chat").await;
    assert_eq!(
        (&own["text"], &own["nonce"]),
        (&json!("안녕하세요"), &json!("n1"))
    );
    let line = teacher.next("chat").await;
    assert_eq!(line["text"], "안녕하세요");
    assert!(line.get("nonce").is_none(), "the nonce is its author's alone");
    house.stop().await;
}

#[tokio::test]
async fn a_late_joiner_sees_the_lessons_lines_and_a_host_the_rooms() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let mut teacher = Seat::host(&house, &room, "김선생").await;
    let mut student = Seat::join(&house, &room, "민수").await;
    for number in 0..8 {
        student
            .send(json!({"type": "chat", "text": format!("line {number}"), "nonce": "n"}))
            .await;
        teacher.next("chat").await;
    }
    let late = Seat::join(&house, &room, "지우").await;
    let lines: Vec<&str> = late.history.iter().map(|line| text(line, "text")).collect();
    assert_eq!(
        lines,
        (0..8).map(|number| format!("line {number}")).collect::<Vec<_>>()
    );
    house.close(&room, true).await;
    assert_eq!(text(&teacher.next("closing").await, "reason"), "lesson_ended");
    assert_eq!(teacher.close_code().await, 4000);
    house.until_no_lesson(&room).await;
    let teacher = Seat::host(&house, &room, "김선생").await;
    assert_eq!(teacher.history.len(), 8, "the room's history");
    let student = Seat::join(&house, &room, "민수").await;
    assert!(student.history.is_empty(), "the new lesson's history");
    house.stop().await;
}

#[tokio::test]
async fn a_full_room_says_so_and_lets_its_teacher_in() {
    let house = House::start().await;
    let room = house.room(json!({"capacity": 2})).await;
    let one = Seat::join(&house, &room, "하나").await;
    let _two = Seat::join(&house, &room, "둘").await;
    let mut late = house.welcomed(None).await;
    late.send(json!({"type": "join_room", "room": room.number, "name": "셋"}))
        .await;
    let error = late.next("error").await;
    assert_eq!(
        (text(&error, "code"), text(&error, "reply_to")),
        ("full", "join_room")
    );
    let _teacher = Seat::host(&house, &room, "김선생").await;
    one.leave().await;
    house.stop().await;
}

#[tokio::test]
async fn namesakes_are_numbered_and_a_claimed_role_has_no_effect() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let _first = Seat::join(&house, &room, "민수").await;
    let second = Seat::join(&house, &room, "민수").await;
    assert_eq!(second.info["you"]["name"], "민수 2");
    let mut liar = house.welcomed(None).await;
    liar.send(json!({"type": "join_room", "room": room.number, "name": "지우", "role": "host", "rights": {"may_publish": true}}))
        .await;
    assert_eq!(liar.next("room_info").await["you"]["role"], "student");
    let stored: Vec<String> = house
        .query("SELECT storage_name FROM participants ORDER BY joined_at")
        .await;
    assert_eq!(stored, ["민수", "민수-2", "지우"]);
    house.stop().await;
}

#[tokio::test]
async fn a_reload_takes_the_same_seat_at_once() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let mut teacher = Seat::host(&house, &room, "김선생").await;
    let student = Seat::join(&house, &room, "민수").await;
    teacher.next("user_enter").await;
    let (id, resume) = (student.id(), student.resume());
    student.leave().await;
    let exit = teacher.next("user_exit").await;
    assert_eq!(
        (text(&exit, "participant"), text(&exit, "reason")),
        (id.as_str(), "left")
    );
    let back = Seat::back(&house, &room, "somebody else", &resume).await;
    assert_eq!(back.id(), id);
    assert_eq!(back.info["you"]["name"], "민수");
    assert_eq!(back.info["resumed"], true);
    assert_eq!(teacher.next("user_enter").await["user"]["name"], "민수");
    house.stop().await;
}

#[tokio::test]
async fn the_newest_socket_of_a_seat_wins() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let mut old = Seat::join(&house, &room, "민수").await;
    let new = Seat::back(&house, &room, "민수", &old.resume()).await;
    assert_eq!(new.id(), old.id());
    assert_eq!(text(&old.next("closing").await, "reason"), "replaced");
    assert_eq!(old.close_code().await, 4001);
    house.stop().await;
}

#[tokio::test]
async fn somebody_who_vanishes_has_the_grace_time_to_come_back() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let mut teacher = Seat::host(&house, &room, "김선생").await;
    let student = Seat::join(&house, &room, "민수").await;
    teacher.next("user_enter").await;
    let (id, resume) = (student.id(), student.resume());
    drop(student);
    assert_eq!(
        teacher.next("user_update").await["user"]["states"]["signaling"],
        "lost"
    );
    let back = Seat::back(&house, &room, "민수", &resume).await;
    assert_eq!(back.id(), id);
    assert_eq!(
        teacher.next("user_update").await["user"]["states"]["signaling"],
        "connected"
    );
    drop(back);
    let exit = teacher.next("user_exit").await;
    assert_eq!(
        (text(&exit, "participant"), text(&exit, "reason")),
        (id.as_str(), "lost")
    );
    house.stop().await;
}

#[tokio::test]
async fn in_a_seminar_the_right_to_publish_is_given_and_taken() {
    let house = House::start().await;
    let room = house.room(json!({"kind": "seminar"})).await;
    let mut teacher = Seat::host(&house, &room, "김선생").await;
    let mut student = Seat::join(&house, &room, "민수").await;
    let publish = json!({"type": "publish", "source": "camera"});
    student.send(publish.clone()).await;
    assert_eq!(text(&student.next("error").await, "code"), "forbidden");
    let id = student.id();
    student.send(rights(&id, true)).await;
    assert_eq!(
        text(&student.next("error").await, "code"),
        "forbidden",
        "nobody helps oneself"
    );
    teacher.send(rights(&student.id(), true)).await;
    assert_eq!(
        student.next("user_update").await["user"]["rights"]["may_publish"],
        true
    );
    student.send(publish).await;
    assert_eq!(
        student.next("user_update").await["user"]["publications"],
        json!(["camera"])
    );
    teacher.send(rights(&student.id(), false)).await;
    let update = student.next("user_update").await;
    assert_eq!(
        update["user"]["publications"],
        json!([]),
        "what may not be sent stops"
    );
    teacher.send(rights("00000000000000000000000000", true)).await;
    assert_eq!(text(&teacher.next("error").await, "code"), "unknown_participant");
    house.stop().await;
}

#[tokio::test]
async fn answers_about_consent_are_stored_with_every_change() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let mut student = house.welcomed(None).await;
    student
        .send(json!({"type": "join_room", "room": room.number, "name": "민수", "consents": {"recording": true}}))
        .await;
    let info = student.next("room_info").await;
    assert_eq!(
        info["you"]["consents"],
        json!({"recording": true, "captures": false})
    );
    let state = student.next("recording_state").await;
    let nothing = json!({"recording": false, "captures": false});
    assert_eq!(
        (&state["you"], &state["room"]),
        (&nothing, &nothing),
        "nothing is kept until it is kept"
    );
    student
        .send(json!({"type": "consent", "recording": false, "captures": true}))
        .await;
    student.next("user_update").await;
    let rows: Vec<String> = house
        .query("SELECT purpose || answer || given_by || (length(text_version) > 0) FROM consents ORDER BY id")
        .await;
    assert_eq!(
        rows,
        [
            "recording1self1",
            "captures0self1",
            "recording0self1",
            "captures1self1"
        ]
    );
    house.stop().await;
}

#[tokio::test]
async fn an_oversize_message_closes_that_socket_only() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let mut teacher = Seat::host(&house, &room, "김선생").await;
    let mut student = Seat::join(&house, &room, "민수").await;
    student
        .send(json!({"type": "chat", "text": "x".repeat(70_000), "nonce": "n"}))
        .await;
    assert_eq!(student.close_code().await, 1009);
    teacher.send(json!({"type": "ping"})).await;
    teacher.next("pong").await;
    house.stop().await;
}

#[tokio::test]
async fn messages_out_of_place_are_answered_and_too_many_close_the_socket() {
    let house = House::start().await;
    let mut socket = house.socket(None).await.expect("a socket");
    socket
        .send(json!({"type": "join_room", "room": "x", "name": "민수"}))
        .await;
    assert_eq!(text(&socket.next("error").await, "code"), "bad_state");
    socket.send(json!({"type": "hello", "version": 99})).await;
    assert_eq!(text(&socket.next("error").await, "code"), "unsupported_version");
    socket.send(json!({"type": "hello", "version": 1})).await;
    socket.next("welcome").await;
    socket.send(json!({"type": "dance"})).await;
    let error = socket.next("error").await;
    assert_eq!(
        (text(&error, "code"), text(&error, "reply_to")),
        ("unknown_type", "dance")
    );
    for (join, code) in [
        (
            json!({"type": "join_room", "room": "../x", "name": "민수"}),
            "bad_number",
        ),
        (
            json!({"type": "join_room", "room": "nowhere", "name": "민수"}),
            "unknown_room",
        ),
        (
            json!({"type": "join_room", "room": "nowhere", "name": "a\u{202e}b"}),
            "bad_name",
        ),
        (json!({"type": "join_room", "room": 7}), "bad_message"),
    ] {
        socket.send(join).await;
        assert_eq!(text(&socket.next("error").await, "code"), code);
    }
    for _ in 0..20 {
        socket.send_text("{").await;
    }
    assert_eq!(text(&socket.next("closing").await, "reason"), "misbehaved");
    assert_eq!(socket.close_code().await, 4003);
    house.stop().await;
}

#[tokio::test]
async fn other_sites_get_no_socket_and_change_nothing() {
    let house = House::start().await;
    assert_eq!(house.socket(Some("https://evil.example")).await.err(), Some(403));
    let body = json!({"title": "x", "name": "y", "kind": "meeting"});
    for headers in [
        vec![
            ("origin", "https://evil.example".to_owned()),
            ("x-seodang", "1".to_owned()),
        ],
        vec![("origin", house.url())],
        vec![("x-seodang", "1".to_owned())],
    ] {
        let (status, answer, _) = house
            .request("POST", "/api/v1/rooms", &headers, Some(&body))
            .await;
        assert_eq!((status, text(&answer["error"], "code")), (403, "bad_origin"));
    }
    house.stop().await;
}

#[tokio::test]
async fn a_flood_of_chat_is_dropped_with_one_notice() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let mut student = Seat::join(&house, &room, "민수").await;
    for number in 0..40 {
        student
            .send(json!({"type": "chat", "text": "x", "nonce": number.to_string()}))
            .await;
    }
    student.send(json!({"type": "ping"})).await;
    let (mut lines, mut notices) = (0, 0);
    // The last line that got through is behind the pong: it had to be committed.
    let mut answered = false;
    while !answered || lines < 10 {
        let message = student.next_any().await;
        match text(&message, "type") {
            "chat" => lines += 1,
            "error" => {
                assert_eq!(text(&message, "code"), "slow_down");
                notices += 1;
            }
            "pong" => answered = true,
            _ => {}
        }
    }
    assert!((10..15).contains(&lines), "{lines}");
    assert_eq!(notices, 1);
    house.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_lesson_and_the_seats() {
    let mut house = House::start().await;
    let room = house.room(json!({})).await;
    let mut teacher = Seat::host(&house, &room, "김선생").await;
    let student = Seat::join(&house, &room, "민수").await;
    teacher
        .send(json!({"type": "chat", "text": "before", "nonce": "n"}))
        .await;
    teacher.next("chat").await;
    house
        .restart(async |_| {
            let closing = teacher.next("closing").await;
            assert_eq!(text(&closing, "reason"), "server_restart");
            assert!(closing["retry_after_ms"].as_u64().is_some());
            assert_eq!(teacher.close_code().await, 1012);
        })
        .await;
    let back = Seat::back(&house, &room, "민수", &student.resume()).await;
    assert_eq!(back.id(), student.id());
    assert_eq!(
        back.info["lesson_started_at"], student.info["lesson_started_at"],
        "one lesson clock"
    );
    assert_eq!(text(&back.history[0], "text"), "before");
    let newcomer = Seat::join(&house, &room, "민수").await;
    assert_eq!(newcomer.info["you"]["name"], "민수 2");
    house.stop().await;
}

#[tokio::test]
async fn a_restart_finishes_an_end_that_was_decided() {
    let mut house = House::start().await;
    let room = house.room(json!({})).await;
    let _teacher = Seat::host(&house, &room, "김선생").await;
    house.restart(async |_| {}).await;
    let house_again = house;
    house_again
        .execute("UPDATE lessons SET end_reason = 'closed', keep_recordings = 0")
        .await;
    let mut house = house_again;
    house.restart(async |_| {}).await;
    house.until_no_lesson(&room).await;
    let ended: Vec<String> = house
        .query("SELECT end_reason || keep_recordings FROM lessons WHERE ended_at IS NOT NULL")
        .await;
    assert_eq!(ended, ["closed0"]);
    house.stop().await;
}

#[tokio::test]
async fn a_lesson_without_a_host_and_one_without_anybody_end() {
    let house = House::start_with(|config| {
        config.lesson_empty_end_s = 1;
        config.lesson_hostless_end_s = 2;
    })
    .await;
    let room = house.room(json!({})).await;
    let mut student = Seat::join(&house, &room, "민수").await;
    assert_eq!(text(&student.next("closing").await, "reason"), "host_missing");
    house.until_no_lesson(&room).await;
    let again = Seat::join(&house, &room, "민수").await;
    assert_eq!(again.info["resumed"], false, "the room stays");
    again.leave().await;
    house.until_no_lesson(&room).await;
    let reasons: Vec<String> = house
        .query("SELECT end_reason FROM lessons ORDER BY started_at")
        .await;
    assert_eq!(reasons, ["host_missing", "empty"]);
    house.stop().await;
}

#[tokio::test]
async fn hosts_are_known_by_cookie_or_bearer_and_by_nothing_else() {
    let house = House::start().await;
    let room = house.room(json!({"listed": true})).await;
    let path = |what: &str| format!("/api/v1/rooms/{}/{what}", room.number);
    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    let (status, _, headers) = house
        .request("POST", &path("host"), &bearer(&room.host_token), None)
        .await;
    assert_eq!(status, 204);
    let cookie = headers
        .iter()
        .find(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.clone())
        .expect("a cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let cookie = vec![("cookie", cookie.split(';').next().expect("a pair").to_owned())];
    let (status, state, _) = house.request("GET", &path("state"), &cookie, None).await;
    assert_eq!((status, &state["lesson"]), (200, &json!(null)));
    for (method, what) in [("GET", "state"), ("POST", "host"), ("POST", "close")] {
        let (status, answer, _) = house
            .request(
                method,
                &path(what),
                &bearer("wrong"),
                Some(&json!({"keep_recordings": true})),
            )
            .await;
        assert_eq!(
            (status, text(&answer["error"], "code")),
            (404, "not_found"),
            "{what}"
        );
        let other = format!("/api/v1/rooms/nowhere/{what}");
        let (status, _, _) = house
            .request(
                method,
                &other,
                &bearer(&room.host_token),
                Some(&json!({"keep_recordings": true})),
            )
            .await;
        assert_eq!(status, 404, "{what}");
    }
    let (status, _, _) = house.request("GET", &path("state"), &[], None).await;
    assert_eq!(status, 401);
    let (status, answer, _) = house
        .request(
            "POST",
            &path("close"),
            &bearer(&room.host_token),
            Some(&json!({"keep_recordings": true})),
        )
        .await;
    assert_eq!((status, text(&answer["error"], "code")), (409, "no_lesson"));
    let mut stranger = house.welcomed(Some("wrong")).await;
    stranger
        .send(json!({"type": "join_room", "room": room.number, "name": "x"}))
        .await;
    assert_eq!(text(&stranger.next("error").await, "code"), "unauthorized");
    house.stop().await;
}

#[tokio::test]
async fn rooms_are_made_listed_and_looked_up() {
    let house = House::start().await;
    let listed = house.room(json!({"listed": true, "number": " Math-7B "})).await;
    let hidden = house.room(json!({})).await;
    assert_eq!(listed.number, "math-7b");
    let (_, answer, _) = house.request("GET", "/api/v1/rooms", &[], None).await;
    let numbers: Vec<&str> = answer["rooms"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|room| text(room, "number"))
        .collect();
    assert_eq!(numbers, ["math-7b"]);
    let _student = Seat::join(&house, &hidden, "민수").await;
    let (status, answer, _) = house
        .request("GET", &format!("/api/v1/rooms/{}", hidden.number), &[], None)
        .await;
    assert_eq!(
        (status, &answer["room"]["participants"], &answer["room"]["open"]),
        (200, &json!(1), &json!(true))
    );
    let (status, answer, _) = house.request("GET", "/api/v1/rooms/nowhere", &[], None).await;
    assert_eq!((status, text(&answer["error"], "code")), (404, "unknown_room"));
    for (body, status, code) in [
        (
            json!({"title": "x", "name": "y", "kind": "meeting", "number": "math-7b"}),
            409,
            "number_taken",
        ),
        (
            json!({"title": "x", "name": "y", "kind": "meeting", "number": "a_b"}),
            400,
            "bad_number",
        ),
        (
            json!({"title": "", "name": "y", "kind": "meeting"}),
            400,
            "bad_name",
        ),
        (
            json!({"title": "x", "name": "\u{0}", "kind": "meeting"}),
            400,
            "bad_name",
        ),
        (
            json!({"title": "x", "name": "y", "kind": "party"}),
            400,
            "bad_message",
        ),
        (
            json!({"title": "x".repeat(5_000), "name": "y", "kind": "meeting"}),
            413,
            "too_large",
        ),
    ] {
        let (got, answer, _) = house
            .request("POST", "/api/v1/rooms", &house.own_page(), Some(&body))
            .await;
        assert_eq!((got, text(&answer["error"], "code")), (status, code));
    }
    house.stop().await;
}

#[tokio::test]
async fn two_classes_see_nothing_of_each_other() {
    let house = House::start().await;
    let (one, two) = (house.room(json!({})).await, house.room(json!({})).await);
    let mut here = Seat::join(&house, &one, "민수").await;
    let mut there = Seat::join(&house, &two, "민수").await;
    assert!(there.users.is_empty());
    there
        .send(json!({"type": "chat", "text": "x", "nonce": "n"}))
        .await;
    there.next("chat").await;
    here.send(json!({"type": "ping"})).await;
    assert_eq!(text(&here.next_any().await, "type"), "pong");
    house.stop().await;
}

fn rights(participant: &str, all: bool) -> serde_json::Value {
    json!({"type": "set_rights", "participant": participant, "rights": {"may_publish": all, "may_share_screen": all}})
}

#[tokio::test]
async fn an_offer_is_answered_and_a_wrong_one_refused() {
    let house = House::start().await;
    let room = house.room(json!({})).await;
    let mut student = Seat::join(&house, &room, "민수").await;
    for (sdp, code) in [
        ("nonsense", "bad_offer"),
        (
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
            "no_datachannel",
        ),
    ] {
        student
            .send(json!({"type": "offer", "connection": 1, "sdp": sdp, "sources": {}, "slots": []}))
            .await;
        let error = student.next("error").await;
        assert_eq!((text(&error, "code"), text(&error, "reply_to")), (code, "offer"));
    }
    student
        .send(json!({"type": "offer", "connection": 3, "sdp": "x", "sources": {}, "slots": []}))
        .await;
    assert_eq!(
        text(&student.next("error").await, "code"),
        "slow_down",
        "two a second"
    );
    let mut other = Seat::join(&house, &room, "지우").await;
    other
        .send(json!({"type": "offer", "connection": 7, "sdp": offer(), "sources": {"0": "microphone"}, "slots": ["1"]}))
        .await;
    let answer = other.next("answer").await;
    assert_eq!(answer["connection"], 7);
    assert!(text(&answer, "sdp").contains("a=ice-lite"));
    house.stop().await;
}

/// The smallest offer: one microphone and one audio slot.
fn offer() -> String {
    let mut sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n".to_owned();
    for (mid, direction) in [("0", "sendonly"), ("1", "recvonly")] {
        sdp.push_str(&format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=ice-ufrag:abcd\r\n\
             a=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=rtcp-mux\r\n\
             a=rtpmap:111 opus/48000/2\r\na={direction}\r\n",
            ["AB"; 32].join(":")
        ));
    }
    sdp
}
