//! `seodang demo`: a class to look at without a camera.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Arg, ArgMatches, Command, value_parser};
use seodang_fixtures::{JoinOptions, ScriptedParticipant};
use seodang_model::protocol::{ClosingReason, Consents};
use seodang_model::{RoomKind, RoomTitle, Source, Token};
use seodang_signal::hub::NewRoom;
use seodang_signal::server::{self, Server};
use seodang_signal::telemetry;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::serve::{Signals, stopped};

/// Scripted participants; a picture is drawn and encoded for each, so a laptop plays about this many.
const MOST_PARTICIPANTS: u8 = 30;
/// Longest name of a scripted participant is well below; the first one is the teacher.
const NAMES: [&str; 6] = ["선생님", "민수", "서연", "Ana", "지훈", "Minh"];

/// A demo without `--for` that nobody ends does so after this; a week is longer than anybody looks.
const LONGEST_DEMO: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Where a demo keeps its files unless told otherwise.
const DATA: &str = "data-demo";

/// Flags beside those of `serve`.
pub(crate) fn with_flags(command: Command) -> Command {
    let number = |name, help| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .value_parser(value_parser!(u8))
            .help(help)
    };
    command
        .mut_arg("data", |data| {
            data.help(format!(
                "Folder of the demo's database, recordings and captures. Taken from this flag alone, so that a demo never touches \
                 those of a school [default: {DATA}]"
            ))
        })
        .arg(number("participants", "Scripted participants, 1 to 30; the first is the host").default_value("3"))
        .arg(number("no-consent", "How many of them decline recording and captures").default_value("0"))
        .arg(
            Arg::new("for")
                .long("for")
                .value_name("DURATION")
                .value_parser(parse_duration)
                .help("Closes the room this long after everybody publishes (40s, 5m) and ends when the files are finished"),
        )
}

/// Serves, fills a class, and with `--for` ends it.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let mut config = super::config(matches)?;
    let data = matches.get_one::<String>("data");
    config.data = data.map_or(DATA, String::as_str).into();
    ensure!(
        !config.is_tls(),
        "demo plays on plain HTTP on this machine; for a class in the network use serve --lan"
    );
    let participants = *matches.get_one::<u8>("participants").context("participants")?;
    let declining = *matches.get_one::<u8>("no-consent").context("no-consent")?;
    ensure!(
        (1..=MOST_PARTICIPANTS).contains(&participants),
        "--participants takes 1 to {MOST_PARTICIPANTS}"
    );
    ensure!(
        declining <= participants,
        "--no-consent takes at most as many as --participants"
    );
    let time = matches.get_one::<Duration>("for").copied();
    telemetry::start(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new().context("signals")?;
        let shutdown = CancellationToken::new();
        let running = server::start(config, shutdown.clone()).await?;
        let played = tokio::select! {
            played = play(&running, participants, declining, time) => played,
            () = signals.next() => Ok(()),
        };
        shutdown.cancel();
        let stopped = stopped(running, &mut signals).await;
        played.and(Ok(stopped))
    });
    runtime.shutdown_background();
    outcome
}

/// Holds the class; without a time it goes on for ever.
async fn play(
    server: &Server,
    participants: u8,
    declining: u8,
    time: Option<Duration>,
) -> anyhow::Result<()> {
    let room = NewRoom {
        title: RoomTitle::parse("Seodang demo").context("title")?,
        number: None,
        kind: RoomKind::Meeting,
        listed: true,
        capacity: None,
    };
    let (room, host_token) = server
        .hub()
        .create_room(room)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let (url, number) = (server.url(), room.number.clone());
    println!("Class:      {url}/class/{number}");
    println!("As host:    {url}/class/{number}#host={}", host_token.as_str());
    println!(
        "Recordings: {url}/recordings/{number}#host={}",
        host_token.as_str()
    );

    let mut class = Vec::new();
    for index in 0..participants {
        // The teacher declines last: a lesson without its host's file is the rarer one.
        let consents = index < participants - declining;
        class.push(
            ScriptedParticipant::join(options(server, number.as_str(), index, &host_token, consents)).await?,
        );
    }
    for participant in &mut class {
        for source in [Source::Camera, Source::Microphone] {
            participant.publish(source).await?;
        }
    }
    let published = Instant::now();
    println!("{participants} scripted participants are in the class; join it in a browser.");
    let Some(time) = time else {
        println!("Ctrl-C ends the demo, and so does a host who closes the room.");
        class[0]
            .wait_for("the end of the class", LONGEST_DEMO, |seen| {
                seen.closing.filter(|reason| {
                    matches!(reason, ClosingReason::LessonEnded | ClosingReason::HostMissing)
                })
            })
            .await?;
        println!("The room was closed.");
        return Ok(());
    };
    tokio::time::sleep_until(published + time).await;
    server
        .hub()
        .close_and_finish(&number, true)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    println!("The room is closed and its files are finished.");
    drop(class);
    Ok(())
}

fn options(server: &Server, room: &str, index: u8, host_token: &Token, consents: bool) -> JoinOptions {
    let name = match NAMES.get(usize::from(index)) {
        Some(name) => (*name).to_owned(),
        None => format!("학생 {index}"),
    };
    let address = format!("http://{}", server.address());
    let mut options = JoinOptions::new(&address, room, &name, index + 1).without_looking();
    options.consents = Consents {
        recording: consents,
        captures: consents,
    };
    options.host_token = (index == 0).then(|| host_token.clone());
    options
}

/// `40s`, `5m`, `1h`.
fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u32 = digits
        .parse()
        .context("a duration is a whole number and s, m or h, such as 40s")?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => bail!("a duration is a whole number and s, m or h, such as 40s"),
    };
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        assert_eq!(parse_duration("40s").expect("seconds"), Duration::from_secs(40));
        assert_eq!(parse_duration("5m").expect("minutes"), Duration::from_secs(300));
        for text in ["", "40", "s", "1.5s", "-1s", "1d", "999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
