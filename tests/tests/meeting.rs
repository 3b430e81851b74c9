//! A meeting with scripted participants: everyone sees and hears everyone, whoever comes, goes, or looks away.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use seodang_fixtures::{MediaConnection, ScriptedParticipant, Seen};
use seodang_model::protocol::ExitReason;
use seodang_model::{ParticipantId, Source};
use seodang_tests::{
    Class, PATIENCE, TestRoom, TestServer, one_class_at_a_time, publish_camera_and_microphone,
};

type Result = anyhow::Result<()>;

#[tokio::test(flavor = "multi_thread")]
async fn everyone_sees_and_hears_everyone() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let class = Class::meet(&server, 3).await?;
    class.all_see_and_hear_all().await?;
    for person in &class.people {
        person.look(|seen| {
            assert_eq!(seen.users.len(), 3);
            assert!(
                seen.errors.is_empty() && seen.strange_messages.is_empty(),
                "{:?}",
                seen.errors
            );
            assert_eq!(
                seen.received.values().map(|slot| slot.undecodable).sum::<u64>(),
                0
            );
            assert!(
                seen.pictures_of(person.number()).next().is_none(),
                "one's own picture comes back"
            );
            assert!(!seen.heard(person.number()), "one's own voice comes back");
        });
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_joiner_sees_and_hears_everyone_and_is_seen() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let mut class = Class::meet(&server, 2).await?;
    class.all_see_and_hear_all().await?;
    let mut late = ScriptedParticipant::join(class.room.student(3)).await?;
    publish_camera_and_microphone(&mut late).await?;
    class.people.push(late);
    class.all_see_and_hear_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_is_gone_within_a_second() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let mut class = Class::meet(&server, 2).await?;
    class.all_see_and_hear_all().await?;
    let mut leaver = class.people.pop().expect("a student");
    let (id, left) = (leaver.id(), Instant::now());
    leaver.leave().await?;
    for person in &class.people {
        let (reason, told) = person
            .wait_for("exit", PATIENCE, |seen| {
                seen.exits
                    .iter()
                    .find(|exit| exit.0 == id)
                    .map(|exit| (exit.1, exit.2))
            })
            .await?;
        assert_eq!(reason, ExitReason::Left);
        assert!(
            told.duration_since(left) < Duration::from_secs(1),
            "{:?}",
            told.duration_since(left)
        );
        person
            .wait_for("empty slot", PATIENCE, |seen| (!feeds(seen, id)).then_some(()))
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_socket_takes_the_same_seat_and_the_media_never_stopped() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let mut class = Class::meet(&server, 2).await?;
    class.all_see_and_hear_all().await?;
    let id = class.people[1].id();
    class.people[1].cut_socket();
    let before = class.people[2].look(|seen| seen.frames_of(1).last());
    // Three more seconds of pictures without a socket.
    class.people[2]
        .wait_for("pictures without a socket", PATIENCE, |seen| {
            (seen.frames_of(1).last() > before.map(|frame| frame + 45)).then_some(())
        })
        .await?;
    class.people[1].reconnect().await?;
    assert_eq!(class.people[1].id(), id);
    assert!(class.people[1].look(|seen| seen.room.as_ref().is_some_and(|room| room.resumed)));
    class.people[0].look(|seen| {
        assert!(seen.exits.is_empty(), "the seat was given up");
        assert_eq!(seen.users.len(), 2);
    });
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_media_come_back_on_a_new_connection_in_the_same_seat() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let mut class = Class::meet(&server, 2).await?;
    class.all_see_and_hear_all().await?;
    let id = class.people[1].id();
    class.people[1].cut_media().await;
    class.people[1].connect_media().await?;
    let epoch = class.people[1].epoch();
    let since = seodang_fixtures::timeline::frame_at(epoch.elapsed());
    class.people[2]
        .wait_for("pictures after the reconnect", PATIENCE, |seen| {
            (seen.frames_of(1).filter(|frame| *frame > since).count() > 15).then_some(())
        })
        .await?;
    assert_eq!(class.people[1].id(), id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_is_switched_off_stops_and_comes_back() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let mut class = Class::meet(&server, 1).await?;
    class.all_see_and_hear_all().await?;
    let id = class.people[1].id();
    class.people[1].unpublish(Source::Camera).await?;
    let watcher = &class.people[0];
    watcher
        .wait_for("camera off", PATIENCE, |seen| {
            (seen.users.get(&id)?.publications == [Source::Microphone]).then_some(())
        })
        .await?;
    let off = watcher.look(|seen| seen.frames_of(1).last().unwrap_or_default());
    class.people[1].publish(Source::Camera).await?;
    let frames = class.people[0]
        .wait_for("camera on again", PATIENCE, |seen| {
            let fresh: Vec<u32> = seen.frames_of(1).filter(|frame| *frame > off + 15).collect();
            (fresh.len() >= 15).then_some(fresh)
        })
        .await?;
    assert!(frames.is_sorted());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_is_seen_by_everyone_beside_the_camera_and_ends() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let mut class = Class::meet(&server, 2).await?;
    class.all_see_and_hear_all().await?;
    let id = class.people[1].id();
    class.people[1].publish(Source::Screen).await?;
    class.people[1].publish(Source::ScreenAudio).await?;
    for watcher in [&class.people[0], &class.people[2]] {
        watcher
            .wait_for("screen", PATIENCE, |seen| {
                let screens = seen
                    .pictures_of(1)
                    .filter(|picture| picture.size == (640, 360))
                    .count();
                (screens >= 10 && feeds_source(seen, id, Source::ScreenAudio)).then_some(())
            })
            .await?;
        assert!(
            watcher.look(|seen| feeds_source(seen, id, Source::Camera)),
            "the camera gave way"
        );
    }
    class.people[1].unpublish(Source::Screen).await?;
    class.people[1].unpublish(Source::ScreenAudio).await?;
    for watcher in [&class.people[0], &class.people[2]] {
        watcher
            .wait_for("end of the screen", PATIENCE, |seen| {
                let gone = [Source::Screen, Source::ScreenAudio]
                    .iter()
                    .all(|source| !feeds_source(seen, id, *source));
                gone.then_some(())
            })
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_screen_reaches_a_late_joiner() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let options = seodang_fixtures::JoinOptions {
        screen_moves: false,
        ..room.host()
    };
    let mut host = ScriptedParticipant::join(options).await?;
    host.publish(Source::Screen).await?;
    let late = ScriptedParticipant::join(room.student(1)).await?;
    let picture = late
        .wait_for("still screen", PATIENCE, |seen| {
            seen.pictures_of(0).next().copied()
        })
        .await?;
    assert_eq!(picture.size, (640, 360));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_who_publish_within_a_second_leave_no_black_tile() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let mut people = vec![ScriptedParticipant::join(room.host()).await?];
    for number in 1..8 {
        people.push(ScriptedParticipant::join(room.student(number)).await?);
    }
    let started = Instant::now();
    for person in &mut people {
        publish_camera_and_microphone(person).await?;
    }
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "the test was too slow: {:?}",
        started.elapsed()
    );
    for watcher in &people {
        let everyone = (0..8_u8)
            .filter(|number| *number != watcher.number())
            .collect::<BTreeSet<_>>();
        watcher
            .wait_for("seven tiles", PATIENCE, |seen| {
                (everyone
                    .iter()
                    .all(|number| seen.frames_of(*number).count() >= 15))
                .then_some(())
            })
            .await?;
        watcher.look(|seen| {
            let black = seen
                .received
                .values()
                .flat_map(|slot| &slot.pictures)
                .filter(|picture| picture.mean_luma < 20.0);
            assert_eq!(black.count(), 0);
        });
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_classes_know_nothing_of_each_other() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let first = Class::meet(&server, 1).await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let mut strangers = Vec::new();
    for number in [20, 21] {
        let mut stranger = ScriptedParticipant::join(room.student(number)).await?;
        publish_camera_and_microphone(&mut stranger).await?;
        stranger.chat("only for our class").await?;
        strangers.push(stranger);
    }
    first.all_see_and_hear_all().await?;
    for stranger in &strangers {
        let other = 41 - stranger.number();
        stranger
            .wait_for("its own class", PATIENCE, |seen| {
                (seen.frames_of(other).count() > 30).then_some(())
            })
            .await?;
        stranger.look(|seen| {
            assert_eq!(
                (
                    seen.users.len(),
                    seen.frames_of(0).count(),
                    seen.frames_of(1).count()
                ),
                (1, 0, 0)
            )
        });
    }
    for person in &first.people {
        person.look(|seen| {
            assert_eq!((seen.users.len(), seen.chat.len()), (1, 0));
            assert_eq!((seen.frames_of(20).count(), seen.frames_of(21).count()), (0, 0));
            assert!(!seen.heard(20) && !seen.heard(21));
        });
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_loudest_are_heard_in_a_larger_class() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let mut listener = room.student(30);
    listener.video_slots = 0;
    let listener = ScriptedParticipant::join(listener).await?;
    let mut voices = Vec::new();
    for number in 1..=8_u8 {
        let mut options = room.student(number).without_looking();
        options.audio_level = if number <= 5 { 10 } else { 60 };
        let mut voice = ScriptedParticipant::join(options).await?;
        voice.publish(Source::Microphone).await?;
        voices.push(voice);
    }
    let loud: BTreeSet<_> = voices[..5].iter().map(ScriptedParticipant::id).collect();
    listener
        .wait_for("the five loudest", PATIENCE, |seen| {
            let heard: BTreeSet<_> = seen.slots.iter().filter_map(|slot| slot.participant).collect();
            (heard == loud && (1..=5).all(|number| seen.heard(number))).then_some(())
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_everyone_takes_the_same_seat_again() -> Result {
    let _turn = one_class_at_a_time().await;
    let mut server = TestServer::start().await?;
    let mut class = Class::meet(&server, 2).await?;
    class.all_see_and_hear_all().await?;
    let ids: Vec<_> = class.people.iter().map(ScriptedParticipant::id).collect();
    let before = Instant::now();
    server.restart().await?;
    for person in &mut class.people {
        person
            .wait_for("closed socket", PATIENCE, |seen| {
                (!seen.socket_open).then_some(())
            })
            .await?;
        person.reconnect().await?;
        person.connect_media().await?;
    }
    assert_eq!(
        class
            .people
            .iter()
            .map(ScriptedParticipant::id)
            .collect::<Vec<_>>(),
        ids
    );
    for watcher in &class.people {
        for number in (0..3).filter(|number| *number != watcher.number()) {
            watcher
                .wait_for("pictures after the restart", PATIENCE, |seen| {
                    (seen
                        .pictures_of(number)
                        .filter(|picture| picture.at > before + Duration::from_secs(1))
                        .count()
                        > 15)
                        .then_some(())
                })
                .await?;
        }
        assert_eq!(watcher.look(|seen| seen.media), MediaConnection::Connected);
    }
    Ok(())
}

fn feeds(seen: &Seen, participant: ParticipantId) -> bool {
    seen.slots
        .iter()
        .any(|slot| slot.participant == Some(participant))
}

fn feeds_source(seen: &Seen, participant: ParticipantId, source: Source) -> bool {
    seen.slots
        .iter()
        .any(|slot| (slot.participant, slot.source) == (Some(participant), Some(source)))
}
