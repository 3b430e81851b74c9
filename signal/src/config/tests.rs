//! Precedence, refusals, and the sample file.

use super::*;

const SAMPLE: &str = include_str!("../../../seodang.sample.toml");

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn of_file(text: &str) -> Result<Config, ConfigError> {
    Config::from_sources(&Sources {
        file: Some(text.to_owned()),
        ..Sources::default()
    })
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "workers = 2\nroom_capacity = 20\nseat_grace_s = 5\n";
    let config = Config::from_sources(&Sources {
        file: Some(file.to_owned()),
        environment: pairs(&[
            ("SEODANG_ROOM_CAPACITY", "21"),
            ("SEODANG_SEAT_GRACE_S", "6"),
            ("HOME", "/x"),
        ]),
        flags: pairs(&[("seat_grace_s", "7")]),
    })
    .expect("a configuration");
    assert_eq!(
        (config.workers, config.room_capacity, config.seat_grace_s),
        (2, 21, 7)
    );
    assert_eq!(config.capture_period_s, Config::default().capture_period_s);
}

#[test]
fn each_core_gets_a_media_thread_unless_their_number_is_given() {
    assert_eq!(
        of_file("workers = 3").expect("a configuration").media_workers(),
        3
    );
    let by_default = Config::default().media_workers();
    let cores = std::thread::available_parallelism().expect("known").get();
    assert_eq!(usize::from(by_default), cores.min(16));
}

#[test]
fn unknown_keys_are_refused_wherever_they_come_from() {
    assert!(matches!(of_file("room_capcity = 20"), Err(ConfigError::File(_))));
    assert!(matches!(of_file("[listen]\nport = 1"), Err(ConfigError::File(_))));
    for variable in ["SEODANG_ROOM_CAPCITY", "SEODANG_", "SEODANG_room_capacity"] {
        let sources = Sources {
            environment: pairs(&[(variable, "20")]),
            ..Sources::default()
        };
        assert!(
            matches!(
                Config::from_sources(&sources),
                Err(ConfigError::UnknownVariable(_))
            ),
            "{variable}"
        );
    }
    let sources = Sources {
        flags: pairs(&[("nothing", "1")]),
        ..Sources::default()
    };
    assert!(matches!(
        Config::from_sources(&sources),
        Err(ConfigError::UnknownFlag(_))
    ));
}

#[test]
fn wrong_values_are_refused_with_their_key() {
    for (variable, value) in [
        ("SEODANG_LISTEN", "localhost"),
        ("SEODANG_LAN", "yes"),
        ("SEODANG_WORKERS", "65"),
        ("SEODANG_ROOM_CAPACITY", "-1"),
        ("SEODANG_MEDIA_PORT", "70000"),
        ("SEODANG_MEDIA_ADDRESSES", "10.0.0.1,x"),
        ("SEODANG_TIME_ZONE", "Mars/Base"),
        ("SEODANG_LOG_FORMAT", "xml"),
        ("SEODANG_PUBLIC_URL", "class.example.org"),
        ("SEODANG_PUBLIC_URL", "https://class.example.org/path"),
        ("SEODANG_PUBLIC_URL", "https://class.example.org/"),
        ("SEODANG_PUBLIC_URL", "ftp://class.example.org"),
        ("SEODANG_TLS_KEY", "only-the-key.pem"),
        ("SEODANG_METRICS_TOKEN", ""),
        ("SEODANG_TURN_URLS", "turn.example.org"),
        ("SEODANG_TURN_URLS", "turn:turn.example.org"),
        ("SEODANG_TURN_LIFETIME_S", "59"),
    ] {
        let sources = Sources {
            environment: pairs(&[(variable, value)]),
            ..Sources::default()
        };
        let error = Config::from_sources(&sources).expect_err(variable);
        assert!(
            matches!(error, ConfigError::Value { .. }),
            "{variable}={value}: {error}"
        );
    }
    assert!(of_file("media_port = 65530\nworkers = 10").is_err());
}

#[test]
fn plain_http_beyond_loopback_is_refused_without_the_flag() {
    for listen in ["0.0.0.0:8080", "192.0.2.1:80", "[::]:8080"] {
        let file = format!("listen = {listen:?}");
        assert!(
            matches!(of_file(&file), Err(ConfigError::PlainBeyondLoopback(_))),
            "{listen}"
        );
        for more in [
            "insecure_http = true",
            "lan = true",
            "tls_certificate = \"c\"\ntls_key = \"k\"",
        ] {
            assert!(of_file(&format!("{file}\n{more}")).is_ok(), "{listen} {more}");
        }
    }
    assert!(of_file("listen = \"[::1]:8080\"").is_ok());
}

#[test]
fn lan_listens_on_all_addresses_over_tls() {
    let config = of_file("lan = true").expect("a configuration");
    assert!(config.is_tls());
    assert_eq!(config.bind_address().to_string(), "0.0.0.0:8080");
    let config = of_file("lan = true\nlisten = \"192.0.2.1:9000\"").expect("a configuration");
    assert_eq!(config.bind_address().to_string(), "192.0.2.1:9000");
}

#[test]
fn lan_and_a_wish_to_listen_on_this_machine_alone_are_refused_together() {
    let refused = |file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]| {
        let sources = Sources {
            file: Some(file.to_owned()),
            environment: pairs(environment),
            flags: pairs(flags),
        };
        match Config::from_sources(&sources) {
            Ok(_) => false,
            Err(ConfigError::Value { key, .. }) => key == "listen",
            Err(other) => panic!("{other}"),
        }
    };
    let lan = [("lan", "true")];
    assert!(refused("", &[], &[lan[0], ("listen", "127.0.0.1:8080")]));
    assert!(refused("", &[("SEODANG_LISTEN", "[::1]:8080")], &lan));
    assert!(refused("lan = true\nlisten = \"127.0.0.1:9000\"", &[], &[]));
    assert!(!refused("", &[], &[lan[0], ("listen", "0.0.0.0:9000")]));
    assert!(!refused(
        "lan = true\nlisten = \"127.0.0.1:9000\"",
        &[],
        &[("lan", "false")]
    ));
    assert!(
        !refused(SAMPLE, &[], &lan),
        "who begins with the sample file has wished for nothing"
    );
}

#[test]
fn captures_take_what_recordings_take_unless_they_have_a_size_of_their_own() {
    let sizes = |file: &str| {
        let config = of_file(file).expect("a configuration");
        [config.recording_size(), config.capture_size()].map(|size| (size.width, size.height))
    };
    assert_eq!(sizes(""), [(640, 480); 2]);
    assert_eq!(sizes("recording_width = 320"), [(320, 480); 2]);
    let own = "capture_width = 1280\ncapture_height = 720";
    assert_eq!(sizes(own), [(640, 480), (1280, 720)]);
    assert!(of_file("capture_width = 15").is_err());
}

#[test]
fn secrets_are_redacted() {
    let config = of_file("metrics_token = \"hush\"").expect("a configuration");
    assert!(!format!("{config:?}").contains("hush"));
    let config =
        of_file("turn_urls = [\"turn:a\", \"turns:b\"]\nturn_secret = \"hush\"").expect("a configuration");
    assert_eq!(config.turn_urls, ["turn:a", "turns:b"]);
    assert!(!format!("{config:?}").contains("hush"));
    // Nor does an error repeat the line it found wrong.
    let error = of_file("metrics_token = [\"hush\"]").expect_err("no text");
    assert!(!format!("{error:?}").contains("hush"));
}

#[test]
fn the_sample_file_holds_every_key_with_its_default() {
    assert_eq!(of_file(SAMPLE).expect("the sample is valid"), Config::default());
    // Keys without a default stand behind `# `; those with one are set.
    let mut seen = Vec::new();
    for line in SAMPLE.lines() {
        if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            seen.push(key);
        }
    }
    let keys: Vec<_> = Config::SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(seen, keys);
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| {
            if line.contains(" = ") {
                line.trim_start_matches("# ")
            } else {
                ""
            }
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    of_file(&uncommented).expect("the examples are valid too");
    for setting in Config::SETTINGS {
        let first_words: Vec<_> = setting.help.split_whitespace().take(4).collect();
        let sample: String = SAMPLE.replace("# ", "");
        let sample: Vec<_> = sample.split_whitespace().collect();
        assert!(
            sample.windows(4).any(|words| words == first_words),
            "{} is described",
            setting.name
        );
    }
}
