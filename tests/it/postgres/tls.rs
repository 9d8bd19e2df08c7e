//! Encrypted sessions.

use std::{fs, path::Path, process::Command};

use postrider::store::connect::Target;

use super::{ByHand, ask, connect, give, open_dir, start};

/// Makes a certificate for `localhost` that vouches for itself.
fn certificate(dir: &Path, name: &str) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-keyout").arg(dir.join(format!("{name}.key")));
    command.arg("-out").arg(dir.join(format!("{name}.pem")));
    assert!(command.output().expect("openssl").status.success());
}

#[tokio::test]
async fn encryption_and_the_server_s_name_are_checked_as_asked() {
    let dir = open_dir();
    start(dir.path()).await.stop().await;
    for name in ["server", "other"] {
        certificate(dir.path(), name);
    }
    give(dir.path(), &dir.path().join("server.key"));
    fs::write(dir.path().join("hba.conf"), "hostssl all all 127.0.0.1/32 trust\n").expect("hba");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let server = ByHand::start(
        dir.path(),
        &[
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", path("server.pem")),
            format!("ssl_key_file={}", path("server.key")),
            format!("hba_file={}", path("hba.conf")),
        ],
    )
    .await;
    let url = |host: &str, mode: &str, authority: &str| {
        let root = if authority.is_empty() {
            String::new()
        } else {
            format!("&sslrootcert={}", path(authority))
        };
        format!("postgres://postrider@{host}:{}/postgres?sslmode={mode}{root}", server.port)
    };
    for (host, mode, authority) in [
        ("127.0.0.1", "require", ""),
        ("127.0.0.1", "prefer", ""),
        ("127.0.0.1", "require", "server.pem"),
        ("127.0.0.1", "verify-ca", "server.pem"),
        ("localhost", "verify-full", "server.pem"),
    ] {
        let mut session = connect(&url(host, mode, authority)).await;
        let sql = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(ask(&mut session, sql).await, "true", "{mode} {authority}");
    }
    for (host, mode, authority) in [
        ("localhost", "verify-full", "other.pem"),
        ("localhost", "verify-full", ""),
        ("127.0.0.1", "verify-full", "server.pem"),
        ("127.0.0.1", "verify-ca", "other.pem"),
        ("127.0.0.1", "require", "other.pem"),
        ("127.0.0.1", "disable", ""),
    ] {
        let target = Target::parse(&url(host, mode, authority)).expect("a URL");
        let refused = target.connect("test").await.expect_err(mode);
        assert!(refused.is_permanent(), "{mode} {authority}: {refused}");
    }
}
