//! Help, configuration and what comes later.

use clap::CommandFactory;
use postrider::cli::Cli;
use serde_json::json;

use super::{
    program, ran,
    server::{Server, problem},
};

#[test]
fn the_arguments_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_setting_has_an_environment_name_and_help_tells_it() {
    let mut cli = Cli::command();
    cli.build();
    for (name, secret) in [("serve", "DATABASE_URL"), ("migrate", "DATABASE_URL")] {
        let command = cli.find_subcommand_mut(name).expect("a subcommand");
        let help = command.render_help().to_string();
        for arg in command.get_arguments().filter(|arg| arg.get_id() != "help") {
            let env = arg.get_env().unwrap_or_else(|| panic!("{name} --{}", arg.get_id()));
            let env = env.to_str().expect("text");
            assert!(env == secret || env.starts_with("POSTRIDER_"), "{env}");
            assert!(help.contains(&format!("[env: {env}")), "{help}");
        }
    }
    let help = cli.find_subcommand_mut("serve").expect("there").render_help().to_string();
    for env in ["LISTEN", "INSECURE", "DATA_DIR", "PG_BIN_DIR", "LOG_FORMAT", "CONFIG"] {
        assert!(help.contains(&format!("POSTRIDER_{env}")), "{env}");
    }
}

#[test]
fn every_command_explains_itself() {
    fn check(command: &mut clap::Command) {
        let name = command.get_name().to_owned();
        assert!(command.get_about().is_some(), "{name}");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(arg.get_help().is_some(), "{name} {}", arg.get_id());
        }
        assert!(command.render_help().to_string().lines().count() > 2, "{name}");
        command.get_subcommands_mut().for_each(check);
    }
    let mut cli = Cli::command();
    cli.build();
    check(&mut cli);
}

#[tokio::test(flavor = "multi_thread")]
async fn help_does_not_show_the_password() {
    for name in ["serve", "migrate", "doctor"] {
        let mut help = program(&[name, "--help"]);
        help.env("DATABASE_URL", "postgres://ada:s3cret@db/app");
        let told = ran(help).await;
        assert_eq!(told.code, Some(0));
        assert!(told.text().contains("DATABASE_URL") && !told.text().contains("s3cret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_beyond_loopback_is_refused_from_every_source() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "[http]\nlisten = '0.0.0.0:0'\n").expect("written");
    let path = file.path().to_str().expect("text");
    let mut by_env = program(&["serve"]);
    by_env.env("POSTRIDER_LISTEN", "[::]:0");
    let by_flag = program(&["serve", "--listen", "0.0.0.0:0"]);
    for mut refused in [by_flag, by_env, program(&["serve", "--config", path])] {
        // Were it not refused, it should find no database rather than start one.
        refused.env("DATABASE_URL", "postgres://127.0.0.1:1/none");
        let told = ran(refused).await;
        assert_eq!(told.code, Some(2), "{told:?}");
        assert!(told.err.contains("--insecure"), "{}", told.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_win_over_environment_and_that_over_the_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "[log]\nformat = 'from-file'\n").expect("written");
    let path = file.path().to_str().expect("text");
    let told = |flag: Option<&'static str>, env: Option<&'static str>| {
        let mut command = program(&["serve", "--config", path]);
        command.args(flag.map(|flag| format!("--log-format={flag}")));
        command.envs(env.map(|env| ("POSTRIDER_LOG_FORMAT", env)));
        ran(command)
    };
    for (flag, env, wins) in [
        (Some("from-flag"), Some("from-env"), "from-flag"),
        (None, Some("from-env"), "from-env"),
        (None, Some(""), "from-file"),
        (None, None, "from-file"),
    ] {
        let told = told(flag, env).await;
        assert_eq!(told.code, Some(2));
        assert!(told.err.contains(&format!("'{wins}' is neither")), "{wins}: {}", told.err);
    }
    let missing = ran(program(&["serve", "--config", "/nowhere/postrider.toml"])).await;
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("/nowhere/postrider.toml cannot be read"), "{}", missing.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_later_says_so() {
    for args in [&["queue", "create", "q", "--lease", "30s"][..], &["token", "--key", "f"]] {
        let told = ran(program(args)).await;
        assert_eq!(told.code, Some(2), "{args:?}");
        assert!(told.err.starts_with("postrider: not_yet_supported: "), "{}", told.err);
    }
    assert_eq!(ran(program(&["sevre"])).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_what_is_well_and_what_is_not() {
    let server = Server::start().await;
    let well = ran(program(&["doctor", "-o", "json", "--url", &server.url])).await;
    assert_eq!(well.code, Some(0), "{}", well.err);
    let found = well.json();
    let status = |check: &str| {
        let findings = found.as_array().expect("an array");
        let finding = findings.iter().find(|finding| finding["check"] == check);
        finding.unwrap_or_else(|| panic!("{check}: {found}"))["status"].clone()
    };
    assert_eq!([status("server"), status("clock"), status("ready")], ["ok", "ok", "ok"]);
    assert_eq!(status("version"), "warn", "the server says 0.0.1");
    server.fail(503, problem("database_unavailable", "none"));
    let ill = ran(program(&["doctor", "--url", &server.url])).await;
    assert_eq!(ill.code, Some(1));
    assert!(ill.text().contains("FAIL    ready    database_unavailable"), "{}", ill.text());
    assert!(ill.text().contains("not checked: the database"), "{}", ill.text());
    assert_eq!(ill.err, "postrider: 1 of 4 checks failed\n");
    let none = ran(program(&["doctor", "-o", "json", "--url", "http://127.0.0.1:1"])).await;
    assert_eq!(none.code, Some(1));
    assert_eq!(none.json()[0]["status"], json!("fail"));
}
