//! Chat, rights, refusals and bad input, with scripted participants against the whole server.

use std::time::{Duration, Instant};

use seodang_fixtures::{FixtureError, JoinOptions, ScriptedParticipant};
use seodang_model::protocol::{ClosingReason, ErrorCode, MOST_MESSAGE_BYTES};
use seodang_model::{Rights, Source, Token};
use seodang_tests::{
    Class, PATIENCE, TestRoom, TestServer, get, one_class_at_a_time, post, publish_camera_and_microphone,
};
use serde_json::json;

type Result = anyhow::Result<()>;

#[tokio::test(flavor = "multi_thread")]
async fn a_late_joiner_sees_history_then_live_lines_each_once_and_in_order() -> Result {
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let mut host = ScriptedParticipant::join_without_media(room.host()).await?;
    for number in 0..8 {
        host.chat(&format!("line {number}")).await?;
    }
    host.wait_for("own lines", PATIENCE, |seen| (seen.chat.len() == 8).then_some(()))
        .await?;
    let mut late = ScriptedParticipant::join_without_media(room.student(1)).await?;
    late.wait_for("history", PATIENCE, |seen| {
        (seen.history_complete && seen.chat.len() >= 8).then_some(())
    })
    .await?;
    late.chat("line 8").await?;
    for person in [&host, &late] {
        person
            .wait_for("live line", PATIENCE, |seen| (seen.chat.len() >= 9).then_some(()))
            .await?;
        person.look(|seen| {
            let texts: Vec<&str> = seen.chat.iter().map(|line| line.text.as_str()).collect();
            assert_eq!(
                texts,
                (0..9).map(|number| format!("line {number}")).collect::<Vec<_>>()
            );
            assert!(seen.chat.is_sorted_by_key(|line| line.id));
        });
    }
    host.look(|seen| assert!(seen.chat[0].nonce.is_some() && seen.chat[8].nonce.is_none()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_survives_a_restart() -> Result {
    let mut server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let mut host = ScriptedParticipant::join_without_media(room.host()).await?;
    host.chat("안녕하세요 <b>bold</b>").await?;
    host.wait_for("own line", PATIENCE, |seen| (seen.chat.len() == 1).then_some(()))
        .await?;
    server.restart().await?;
    let late = ScriptedParticipant::join_without_media(room.student(1)).await?;
    late.wait_for("history", PATIENCE, |seen| seen.history_complete.then_some(()))
        .await?;
    late.look(|seen| assert_eq!(seen.chat[0].text, "안녕하세요 <b>bold</b>"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_seminar_a_student_is_seen_only_with_the_right() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "seminar").await?;
    let mut host = ScriptedParticipant::join(room.host()).await?;
    publish_camera_and_microphone(&mut host).await?;
    let mut student = ScriptedParticipant::join(room.student(1)).await?;
    let watcher = ScriptedParticipant::join(room.student(2)).await?;
    publish_camera_and_microphone(&mut student).await?;
    student
        .wait_for("refusal", PATIENCE, |seen| {
            seen.errors
                .iter()
                .any(|error| error.code == ErrorCode::Forbidden)
                .then_some(())
        })
        .await?;
    watcher
        .wait_for("the presenter", PATIENCE, |seen| {
            (seen.frames_of(0).count() > 30).then_some(())
        })
        .await?;
    watcher.look(|seen| {
        assert_eq!(seen.frames_of(1).count(), 0);
        assert!(!seen.heard(1));
        assert!(seen.users[&student.id()].publications.is_empty());
    });
    host.set_rights(
        student.id(),
        Rights {
            may_publish: true,
            may_share_screen: false,
        },
    )
    .await?;
    student
        .wait_for("the right", PATIENCE, |seen| {
            seen.you()?.rights.may_publish.then_some(())
        })
        .await?;
    publish_camera_and_microphone(&mut student).await?;
    watcher
        .wait_for("the student", PATIENCE, |seen| {
            (seen.frames_of(1).count() > 15 && seen.heard(1)).then_some(())
        })
        .await?;
    host.set_rights(student.id(), Rights::default()).await?;
    watcher
        .wait_for("the right is gone", PATIENCE, |seen| {
            seen.users[&student.id()].publications.is_empty().then_some(())
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_student_gives_no_rights_and_a_wrong_token_makes_no_host() -> Result {
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "seminar").await?;
    let student = ScriptedParticipant::join_without_media(room.student(1)).await?;
    student
        .set_rights(
            student.id(),
            Rights {
                may_publish: true,
                may_share_screen: true,
            },
        )
        .await?;
    student
        .wait_for("refusal", PATIENCE, |seen| {
            seen.errors
                .iter()
                .any(|error| error.code == ErrorCode::Forbidden)
                .then_some(())
        })
        .await?;
    let options = JoinOptions {
        host_token: Some(Token::random()),
        ..room.student(2)
    };
    match ScriptedParticipant::join_without_media(options).await {
        Ok(impostor) => impostor.look(|seen| {
            let you = seen.you().expect("has a seat");
            assert_eq!(
                (you.role, you.rights),
                (seodang_model::Role::Student, Rights::default())
            );
        }),
        Err(error) => assert!(
            matches!(error, FixtureError::Refused(_) | FixtureError::Socket(_)),
            "{error}"
        ),
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_join_says_why_and_changes_nothing() -> Result {
    let server = TestServer::start_with(|config| config.room_capacity = 2).await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let host = ScriptedParticipant::join_without_media(room.host()).await?;
    let mut refused = Vec::new();
    for (number, name) in [
        ("no-such-room", "Mina"),
        ("../../etc", "Mina"),
        (&room.number, "a\u{202e}b"),
        (&room.number, ""),
    ] {
        let options = JoinOptions {
            room: number.to_owned(),
            name: name.to_owned(),
            ..room.student(9)
        };
        refused.push(code_of(ScriptedParticipant::join_without_media(options).await));
    }
    assert_eq!(
        refused,
        [
            Some(ErrorCode::UnknownRoom),
            Some(ErrorCode::BadNumber),
            Some(ErrorCode::BadName),
            Some(ErrorCode::BadName)
        ]
    );
    let _second = ScriptedParticipant::join_without_media(room.student(1)).await?;
    assert_eq!(
        code_of(ScriptedParticipant::join_without_media(room.student(2)).await),
        Some(ErrorCode::Full)
    );
    host.look(|seen| assert_eq!((seen.users.len(), seen.exits.len()), (1, 0)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn namesakes_are_told_apart() -> Result {
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let mut names = Vec::new();
    let mut people = Vec::new();
    for _ in 0..3 {
        let options = JoinOptions {
            name: "민수".to_owned(),
            ..room.student(1)
        };
        let person = ScriptedParticipant::join_without_media(options).await?;
        names.push(
            person
                .look(|seen| seen.you().map(|you| you.name.as_str().to_owned()))
                .expect("has a seat"),
        );
        people.push(person);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_unknown_messages_are_answered_and_an_oversize_one_ends_that_socket_only() -> Result {
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let host = ScriptedParticipant::join_without_media(room.host()).await?;
    let rude = ScriptedParticipant::join_without_media(room.student(1)).await?;
    rude.send_text(r#"{"type":"dance"}"#).await?;
    rude.wait_for("unknown_type", PATIENCE, |seen| {
        seen.errors
            .iter()
            .any(|error| error.code == ErrorCode::UnknownType)
            .then_some(())
    })
    .await?;
    rude.send_text("{").await?;
    rude.wait_for("bad_message", PATIENCE, |seen| {
        seen.errors
            .iter()
            .any(|error| error.code == ErrorCode::BadMessage)
            .then_some(())
    })
    .await?;
    rude.send_text(&format!(
        r#"{{"type":"ping","x":"{}"}}"#,
        "x".repeat(2 * MOST_MESSAGE_BYTES)
    ))
    .await?;
    rude.wait_for("closed socket", PATIENCE, |seen| {
        (!seen.socket_open).then_some(())
    })
    .await?;
    host.look(|seen| assert!(seen.socket_open && seen.errors.is_empty()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_datagrams_disturb_nobody() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let class = Class::meet(&server, 1).await?;
    class.all_see_and_hear_all().await?;
    let answer = class.people[0]
        .look(|seen| seen.answers.values().next().cloned())
        .expect("an answer");
    let candidate = answer
        .lines()
        .find_map(|line| line.strip_prefix("a=candidate:"))
        .expect("a candidate");
    let words: Vec<&str> = candidate.split(' ').collect();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    let before = class.people[0].look(|seen| seen.frames_of(1).count());
    let seed = rand::random();
    println!("random datagrams: seed {seed}");
    let mut chance: rand::rngs::StdRng = rand::SeedableRng::seed_from_u64(seed);
    for number in 0..5_000_usize {
        use rand::Rng as _;
        let mut datagram = vec![0_u8; chance.random_range(0..200)];
        chance.fill(&mut datagram[..]);
        // STUN, DTLS, RTP and RTCP by their first byte (RFC 7983), and anything.
        if let (Some(first), Some(shape)) = (datagram.first_mut(), [0, 22, 128, 129].get(number % 5)) {
            *first = *shape;
        }
        socket
            .send_to(&datagram, format!("{}:{}", words[4], words[5]))
            .await?;
        if number % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    class.people[0]
        .wait_for("pictures go on", PATIENCE, |seen| {
            (seen.frames_of(1).count() > before + 30).then_some(())
        })
        .await?;
    let late = ScriptedParticipant::join(class.room.student(5)).await?;
    late.wait_for("pictures for a newcomer", PATIENCE, |seen| {
        (seen.frames_of(0).count() > 15).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_channel_in_the_offer_is_refused() -> Result {
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let person = ScriptedParticipant::join_without_media(room.student(1)).await?;
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
        c=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\na=setup:actpass\r\n";
    person
        .send_text(
            &json!({"type": "offer", "connection": 1, "sdp": sdp, "sources": {}, "slots": []}).to_string(),
        )
        .await?;
    person
        .wait_for("no_datachannel", PATIENCE, |seen| {
            seen.errors
                .iter()
                .any(|error| error.code == ErrorCode::NoDatachannel)
                .then_some(())
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_closes_the_room_and_everyone_is_told() -> Result {
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let people = [
        ScriptedParticipant::join_without_media(room.host()).await?,
        ScriptedParticipant::join_without_media(room.student(1)).await?,
    ];
    let path = format!("/api/v1/rooms/{}/close", room.number);
    let body = json!({"keep_recordings": true});
    let stranger = post(server.address(), &path, None, &body).await?;
    assert_eq!(stranger.status, 401, "{}", stranger.json());
    let closed = post(server.address(), &path, Some(room.host_token.as_str()), &body).await?;
    assert!(
        (200..300).contains(&closed.status),
        "{} {}",
        closed.status,
        closed.json()
    );
    for person in &people {
        let reason = person.wait_for("closing", PATIENCE, |seen| seen.closing).await?;
        assert_eq!(reason, ClosingReason::LessonEnded);
        person
            .wait_for("closed socket", PATIENCE, |seen| {
                (!seen.socket_open).then_some(())
            })
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_see_the_three_states_of_everyone() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let class = Class::meet(&server, 1).await?;
    class.all_see_and_hear_all().await?;
    let path = format!("/api/v1/rooms/{}/state", class.room.number);
    assert_eq!(get(server.address(), &path, None).await?.status, 401);
    let state = get(server.address(), &path, Some(class.room.host_token.as_str())).await?;
    assert_eq!(state.status, 200, "{}", state.json());
    let text = state.json().to_string();
    for id in class.people.iter().map(ScriptedParticipant::id) {
        assert!(text.contains(&id.to_string()), "{text}");
    }
    for word in [
        "\"signaling\":\"connected\"",
        "\"ice\":\"connected\"",
        "\"media\":\"ready\"",
        "\"camera\"",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_stops_in_time_and_tells_everyone() -> Result {
    let mut server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let mut host = ScriptedParticipant::join(room.host()).await?;
    publish_camera_and_microphone(&mut host).await?;
    let asked = Instant::now();
    server.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let reason = host.wait_for("closing", PATIENCE, |seen| seen.closing).await?;
    assert_eq!(reason, ClosingReason::ServerRestart);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn media_of_a_source_that_was_not_announced_reach_nobody() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let class = Class::meet(&server, 1).await?;
    let mut silent = ScriptedParticipant::join(class.room.student(7)).await?;
    silent.send_media(Source::Camera)?;
    silent.send_media(Source::Microphone)?;
    silent
        .wait_for("three seconds of media", PATIENCE, |seen| {
            (seen.sent.get(&Source::Camera)?.numbers.len() > 45).then_some(())
        })
        .await?;
    class.all_see_and_hear_all().await?;
    for person in &class.people {
        person.look(|seen| {
            assert_eq!(seen.frames_of(7).count(), 0);
            assert!(!seen.heard(7));
        });
    }
    Ok(())
}

fn code_of(joined: std::result::Result<ScriptedParticipant, FixtureError>) -> Option<ErrorCode> {
    match joined {
        Err(FixtureError::Refused(error)) => Some(error.code),
        _ => None,
    }
}
