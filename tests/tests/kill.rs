//! kill -9 at random moments: every file plays after the next start, and at most a second is lost.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use seodang_fixtures::{JoinOptions, ScriptedParticipant};
use seodang_model::Source;
use seodang_tests::{
    FinishedLesson, PATIENCE, Program, TestRoom, one_class_at_a_time, publish_camera_and_microphone,
};

/// Frames of one second, and two that were under way when the program died.
const MOST_LOST_FRAMES: u32 = 15 + 2;

#[tokio::test(flavor = "multi_thread")]
async fn five_kills_leave_five_lessons_that_play_with_at_most_a_second_lost() -> anyhow::Result<()> {
    let _turn = one_class_at_a_time().await;
    let seed = rand::random();
    println!("kills: seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    for _ in 0..5 {
        let frames = chance.random_range(3..90);
        let pause = Duration::from_millis(chance.random_range(0..67));
        let program = Program::serve(&data).await?;
        let room = TestRoom::create_at(program.address(), "meeting").await?;
        let mut people = Vec::new();
        for options in [
            room.host(),
            JoinOptions {
                name: "민수".to_owned(),
                ..room.student(1)
            },
        ] {
            let mut person = ScriptedParticipant::join(options).await?;
            publish_camera_and_microphone(&mut person).await?;
            people.push(person);
        }
        let sent = |person: &ScriptedParticipant| {
            person.look(|seen| {
                seen.sent
                    .get(&Source::Camera)
                    .map(|sent| sent.numbers.clone())
                    .unwrap_or_default()
            })
        };
        people[1]
            .wait_for("pictures sent", PATIENCE, |seen| {
                (seen.sent.get(&Source::Camera)?.numbers.len() >= frames).then_some(())
            })
            .await?;
        tokio::time::sleep(pause).await;
        let sent: Vec<Vec<u32>> = people.iter().map(sent).collect();
        program.kill().await?;
        drop(people);

        let program = Program::serve(&data).await?;
        let lesson =
            FinishedLesson::close_at(program.address(), &data.join("recordings"), &room, PATIENCE).await?;
        for (sent, file) in sent.iter().zip(["teacher.webm", "민수.webm"]) {
            let last_sent = sent.last().copied().unwrap_or_default();
            if !lesson.files().iter().any(|found| found == file) {
                // Whoever had sent for less than a second may lose all of it, and then there is nothing to play.
                assert!(
                    sent.len() <= MOST_LOST_FRAMES as usize,
                    "{file} is missing, and {} frames were sent",
                    sent.len()
                );
                println!("{file}: killed after {} frames, none kept", sent.len());
                continue;
            }
            let recording = lesson.read(file).await?;
            assert!(
                recording.decode_errors.is_empty(),
                "{file}: {:?}",
                recording.decode_errors
            );
            assert!(
                recording.has_cues && recording.duration_s.is_some(),
                "{file} is not finished"
            );
            let last = recording.numbers().last().copied().unwrap_or_default();
            println!(
                "{file}: killed at frame {last_sent}, {} frames lost",
                last_sent.saturating_sub(last)
            );
            assert!(
                last + MOST_LOST_FRAMES >= last_sent,
                "{file} ends at {last}, sent were {last_sent}"
            );
            assert!(
                recording.missing(sent).len() <= 1,
                "{file}: {:?} are missing",
                recording.missing(sent)
            );
        }
        program.kill().await?;
    }
    Ok(())
}
