//! The command line; every key of the configuration is also a flag.

pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod recover;
pub(crate) mod serve;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use seodang_signal::config::{Config, Sources, read_file};

/// The whole command line.
pub(crate) fn cli() -> Command {
    Command::new("seodang")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Live classes in the browser, recorded for every participant who agrees")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(Command::new("serve").about(
            "Serve classes until SIGTERM or Ctrl-C; a second signal ends at once",
        )))
        .subcommand(demo::with_flags(with_settings(Command::new("demo").about(
            "Serve a class of scripted participants with moving pictures and tones, and print its links",
        ))))
        .subcommand(recover::with_needed_settings(with_settings(
            Command::new("recover")
                .about("Finish recordings that a crash left; not while a server uses the same data folder"),
        )))
        .subcommand(with_settings(Command::new("doctor").about(
            "Say what is missing or wrong for `serve` with the same settings, and how to mend it",
        )))
}

/// The configuration a command runs with: defaults, `--config`, environment, flags.
pub(crate) fn config(matches: &ArgMatches) -> anyhow::Result<Config> {
    let file = matches
        .get_one::<PathBuf>("config")
        .map(|path: &PathBuf| read_file(Path::new(path)))
        .transpose()?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect();
    let flags = Config::SETTINGS
        .iter()
        .filter_map(|setting| {
            Some((
                setting.name.to_owned(),
                matches.get_one::<String>(setting.name)?.clone(),
            ))
        })
        .collect();
    let config = Config::from_sources(&Sources {
        file,
        environment,
        flags,
    })
    .context("configuration")?;
    Ok(config)
}

fn with_settings(command: Command) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Configuration file (TOML); seodang.sample.toml lists every key");
    let defaults = Config::default();
    Config::SETTINGS
        .iter()
        .fold(command.arg(file), |command, setting| {
            let help = match defaults.text(setting.name) {
                Some(default) => format!("{} [default: {default}]", setting.help.trim()),
                None => setting.help.trim().to_owned(),
            };
            let flag = Arg::new(setting.name)
                .long(setting.name.replace('_', "-"))
                .help(help)
                .action(ArgAction::Set);
            command.arg(if setting.is_switch {
                flag.value_name("BOOL")
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
            } else {
                flag.value_name(setting.name.rsplit('_').next().unwrap_or("value").to_uppercase())
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_flags_win() {
        cli().debug_assert();
        let matches = cli()
            .try_get_matches_from([
                "seodang",
                "serve",
                "--data",
                "/tmp/x",
                "--lan",
                "--media-port=9000",
            ])
            .expect("known flags");
        let config = config(matches.subcommand().expect("a command").1).expect("a configuration");
        assert_eq!(
            (config.data, config.lan, config.media_port),
            (PathBuf::from("/tmp/x"), true, 9_000)
        );
    }

    #[test]
    fn help_shows_what_a_key_is_by_default_and_recovery_only_what_it_needs() {
        let help_of = |name: &str| {
            let mut commands = cli();
            let command = commands.find_subcommand_mut(name).expect("a command");
            command.render_help().to_string()
        };
        assert!(help_of("serve").contains("[default: 127.0.0.1:8080]"));
        let recover = help_of("recover");
        assert!(
            recover.contains("--data") && !recover.contains("--media-port"),
            "{recover}"
        );
    }
}
