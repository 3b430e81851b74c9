//! Bad networks: loss, jitter and an uplink that is cut, between a scripted participant and the whole server.

use std::time::Duration;

use seodang_fixtures::{JoinOptions, ScriptedParticipant};
use seodang_tests::{
    LossyRelay, NetworkFaults, PATIENCE, TestRoom, TestServer, one_class_at_a_time,
    publish_camera_and_microphone,
};

type Result = anyhow::Result<()>;

#[tokio::test(flavor = "multi_thread")]
async fn pictures_survive_five_percent_of_loss_and_jitter_both_ways() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let faults = NetworkFaults {
        loss: 0.05,
        duplicates: 0.01,
        delay: Duration::from_millis(15),
        jitter: Duration::from_millis(20),
    };
    let relay = LossyRelay::open(20_261_121, faults, faults).await?;
    let options = JoinOptions {
        change_answer: Some(relay.change_answer()),
        ..room.student(1)
    };
    let mut far = ScriptedParticipant::join(options).await?;
    let mut near = ScriptedParticipant::join(room.host()).await?;
    publish_camera_and_microphone(&mut far).await?;
    publish_camera_and_microphone(&mut near).await?;
    for (watcher, number) in [(&near, 1), (&far, 0)] {
        watcher
            .wait_for("ten seconds of pictures", PATIENCE + PATIENCE, |seen| {
                (seen.frames_of(number).count() >= 150).then_some(())
            })
            .await?;
        watcher.look(|seen| {
            let frames: Vec<u32> = seen.frames_of(number).collect();
            let span = (frames[frames.len() - 1] - frames[0] + 1) as usize;
            // media.md: at 5 % loss 99 % of the frames are decodable; the machine of the test may stutter once.
            assert!(
                frames.len() * 100 >= span * 95,
                "{} of {span} frames arrived",
                frames.len()
            );
            assert!(seen.heard(number));
        });
    }
    let [up, down] = relay.lost();
    assert!(
        up > 20 && down > 20,
        "the relay lost only {up} and {down} datagrams"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_was_dead_for_three_seconds_goes_on_by_itself() -> Result {
    let _turn = one_class_at_a_time().await;
    let server = TestServer::start().await?;
    let room = TestRoom::create(&server, "meeting").await?;
    let relay = LossyRelay::open(7, NetworkFaults::default(), NetworkFaults::default()).await?;
    let options = JoinOptions {
        change_answer: Some(relay.change_answer()),
        ..room.student(1)
    };
    let mut far = ScriptedParticipant::join(options).await?;
    let mut near = ScriptedParticipant::join(room.host()).await?;
    publish_camera_and_microphone(&mut far).await?;
    publish_camera_and_microphone(&mut near).await?;
    far.wait_for("pictures before", PATIENCE, |seen| {
        (seen.frames_of(0).count() > 15).then_some(())
    })
    .await?;
    near.wait_for("pictures before", PATIENCE, |seen| {
        (seen.frames_of(1).count() > 15).then_some(())
    })
    .await?;
    let dead = NetworkFaults {
        loss: 1.0,
        ..NetworkFaults::default()
    };
    relay.set_faults(dead, dead);
    // The line is dead for as long as the far one needs to send another 45 pictures: three seconds.
    let sent = |seen: &seodang_fixtures::Seen| seen.sent[&seodang_model::Source::Camera].numbers.len();
    let before = far.look(sent);
    far.wait_for("three seconds", PATIENCE, |seen| {
        (sent(seen) >= before + 45).then_some(())
    })
    .await?;
    let (to_far, to_near) = (
        far.look(|seen| seen.frames_of(0).count()),
        near.look(|seen| seen.frames_of(1).count()),
    );
    relay.set_faults(NetworkFaults::default(), NetworkFaults::default());
    far.wait_for("pictures after", PATIENCE, |seen| {
        (seen.frames_of(0).count() > to_far + 15).then_some(())
    })
    .await?;
    near.wait_for("pictures after", PATIENCE, |seen| {
        (seen.frames_of(1).count() > to_near + 15).then_some(())
    })
    .await?;
    Ok(())
}
