use super::*;
use crate::{
    config::args::{HttpArgs, Switch},
    model::origin::Origin,
};

fn args(listen: Option<&str>, insecure: Option<bool>) -> ServeArgs {
    let http = HttpArgs {
        listen: listen.map(str::to_owned),
        insecure: insecure.map(|on| Switch(Some(on))),
        ..HttpArgs::default()
    };
    ServeArgs { http, ..ServeArgs::default() }
}

fn merged(args: &ServeArgs, file: &str) -> Result<Settings, Vec<String>> {
    let file = FileSettings::parse(file).map_err(|error| vec![error])?;
    let mut problems = Vec::new();
    let settings = merge(args, &file, listen::system_resolver, &mut problems);
    settings.filter(|_| problems.is_empty()).ok_or(problems)
}

#[test]
fn defaults_serve_this_machine_only() {
    let settings = merged(&ServeArgs::default(), "").expect("defaults are valid");
    assert_eq!(settings.http.listen.text, "127.0.0.1:8080");
    assert!(!settings.http.insecure);
    assert_eq!(settings.database.url, None);
    assert_eq!(settings.database.data_dir, Path::new("./postrider-data"));
    assert!(!settings.database.data_dir_given);
    assert_eq!(settings.log.format, LogFormat::Text);
    assert_eq!(settings.log.filter, "info");
    assert!(!settings.node.name.is_empty());
    assert!(settings.node.notify);
    assert_eq!(settings.warnings(), Vec::<String>::new());
}

#[test]
fn beyond_loopback_needs_insecure() {
    for (listen, insecure, taken) in [
        ("127.0.0.1:0", false, true),
        ("127.9.9.9:80", false, true),
        ("[::1]:80", false, true),
        ("localhost:80", false, true),
        ("0.0.0.0:80", false, false),
        ("[::]:80", false, false),
        ("10.1.2.3:80", false, false),
        ("0.0.0.0:80", true, true),
        ("[::]:80", true, true),
    ] {
        let read = merged(&args(Some(listen), Some(insecure)), "");
        assert_eq!(read.is_ok(), taken, "{listen} {insecure}");
        match read {
            Ok(settings) => assert_eq!(settings.warnings().len(), usize::from(insecure)),
            Err(problems) => assert!(problems[0].contains("--insecure"), "{problems:?}"),
        }
    }
}

#[test]
fn a_flag_turns_off_what_the_file_turns_on() {
    let file = "[http]\nlisten = '0.0.0.0:80'\ninsecure = true";
    assert!(merged(&args(None, None), file).is_ok());
    assert!(merged(&args(None, Some(false)), file).is_err());
    let neither = ServeArgs {
        http: HttpArgs {
            listen: Some(" ".into()),
            insecure: Some(Switch(None)),
            ..HttpArgs::default()
        },
        ..ServeArgs::default()
    };
    assert_eq!(merged(&neither, file).expect("as the file says").http.listen.text, "0.0.0.0:80");
}

#[test]
fn the_file_sets_everything_and_refuses_the_rest() {
    let file = "
        [http]
        listen = '[::1]:9000'
        trusted_proxies = ['10.0.0.0/8', '::1']
        allow_origin = ['https://app.example.com']
        [database]
        url = 'postgres://a:s3cret@db/x'
        data_dir = '/data'
        pg_bin_dir = '/bin'
        [log]
        format = 'json'
        filter = 'debug'
        [node]
        name = 'one'
        no_notify = true";
    let settings = merged(&ServeArgs::default(), file).expect("valid");
    assert_eq!(settings.http.listen.text, "[::1]:9000");
    assert!(settings.http.trusted_proxies.contains([10, 1, 2, 3].into()));
    let origin = Origin::parse("https://app.example.com").expect("an origin");
    assert!(settings.http.allowed_origins.contains(&origin));
    let url = settings.database.url.as_ref().expect("set");
    assert_eq!(url.expose(), "postgres://a:s3cret@db/x");
    assert!(settings.database.data_dir_given);
    assert_eq!(settings.database.pg_bin_dir.as_deref(), Some(Path::new("/bin")));
    assert_eq!((settings.log.format, &*settings.log.filter), (LogFormat::Json, "debug"));
    assert_eq!(settings.node.name, "one");
    assert!(!settings.node.notify);
    assert_eq!(settings.warnings().len(), 1, "the data directory is not used");
    assert!(!format!("{settings:?}").contains("s3cret"));
    for (unknown, named) in [
        ("[http]\nlisten_on = 'x'", "listen_on"),
        ("[htp]\nlisten = 'x'", "htp"),
        ("listen = 'x'", "listen"),
        ("[log]\nformat = ", ""),
        ("[http]\ninsecure = 'perhaps'", "perhaps"),
    ] {
        let problems = merged(&ServeArgs::default(), unknown).expect_err(unknown);
        assert!(problems[0].contains(named), "{problems:?}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let file = "
        [http]
        listen = 'nowhere'
        trusted_proxies = ['10.0.0.1/8']
        allow_origin = ['*']
        [database]
        url = 'mysql://a:s3cret@db/x'
        [log]
        format = 'xml'
        filter = 'a=b=c'
        [node]
        name = \"a\\u0007\"";
    let problems = merged(&ServeArgs::default(), file).expect_err("all wrong");
    let text = InvalidConfig { problems: problems.clone() }.to_string();
    let wrong =
        ["--listen", "--trusted-proxies", "--allow-origin", "--database-url", "--log-format"];
    for named in wrong.into_iter().chain(["--log:", "--node-name"]) {
        assert!(problems.iter().any(|problem| problem.starts_with(named)), "{named}: {text}");
    }
    assert!(text.starts_with("the configuration has 7 problems\n  - "), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_list_of_a_flag_wins_over_that_of_the_file_as_a_whole() {
    let file = "[http]\ntrusted_proxies = ['10.0.0.0/8']";
    let with = |given: &[&str]| {
        let trusted_proxies = given.iter().map(|text| (*text).to_owned()).collect();
        let http = HttpArgs { trusted_proxies, ..HttpArgs::default() };
        let settings = merged(&ServeArgs { http, ..ServeArgs::default() }, file).expect("valid");
        let trusted = |address| settings.http.trusted_proxies.contains(address);
        (trusted([10, 0, 0, 1].into()), trusted([192, 0, 2, 1].into()))
    };
    assert_eq!(with(&[]), (true, false));
    assert_eq!(with(&["", " "]), (true, false), "an empty variable says nothing");
    assert_eq!(with(&["192.0.2.1 ", ""]), (false, true));
}
