//! What Postrider thinks of a server.

use postrider::store::server;

use super::{ask, configure, connect, open_dir, run, start};

async fn refused_with(setting: &str) {
    let dir = open_dir();
    start(dir.path()).await.stop().await;
    configure(dir.path(), &format!("{setting} = off"));
    let server = start(dir.path()).await;
    let mut session = connect(server.url()).await;
    let refused = server::check(&mut session).await.expect_err("unsafe");
    assert!(refused.to_string().contains(&format!("set {setting} = on")), "{refused}");
    drop(session);
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_fsync_is_refused() {
    refused_with("fsync").await;
}

#[tokio::test]
async fn a_server_without_full_page_writes_is_refused() {
    refused_with("full_page_writes").await;
}

#[tokio::test]
async fn poor_settings_are_named() {
    let dir = open_dir();
    start(dir.path()).await.stop().await;
    configure(dir.path(), "synchronous_commit = off\nmax_wal_size = 1GB\nautovacuum = off");
    let server = start(dir.path()).await;
    let facts = server::check(&mut connect(server.url()).await).await.expect("it will do");
    for name in ["synchronous_commit", "max_wal_size", "autovacuum"] {
        let named = facts.warnings.iter().filter(|text| text.contains(name)).count();
        assert_eq!(named, 1, "{name}: {:?}", facts.warnings);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_ordinary_role_can_be_told_the_facts() {
    let dir = open_dir();
    let server = start(dir.path()).await;
    let mut session = connect(server.url()).await;
    run(&mut session, "create role plain login").await;
    let mut plain = connect(&server.url().replace("postrider@", "plain@")).await;
    assert_eq!(ask(&mut plain, "select current_user::text").await, "plain");
    let facts = server::check(&mut plain).await.expect("good");
    assert_eq!(facts.warnings, Vec::<String>::new());
    drop((session, plain));
    server.stop().await;
}
