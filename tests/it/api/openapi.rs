//! The committed description is the code's, is complete, and its explorer works offline.

use std::{collections::BTreeSet, fs, path::Path};

use axum::Router;
use postrider::{
    api::{
        accept::{AcceptSettings, serve},
        asyncapi,
        error::ErrorCode,
        http::docs,
        openapi,
    },
    lifecycle::Lifecycle,
};
use serde_json::Value;
use tokio::net::TcpListener;

/// Set to write the document instead of comparing it, as `make generate` does.
const REGENERATE: &str = "POSTRIDER_REGENERATE";

fn document() -> Value {
    serde_json::from_str(&openapi::document()).expect("JSON")
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().expect("an item").iter();
        operations.map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

#[test]
fn the_committed_document_is_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi");
    for (name, document) in
        [("openapi.json", openapi::document()), ("asyncapi.json", asyncapi::document())]
    {
        let file = folder.join(name);
        if std::env::var_os(REGENERATE).is_some() {
            fs::write(&file, document).expect("it can be written");
            continue;
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == document, "openapi/{name} is stale: run `make generate`");
    }
}

#[test]
fn every_operation_has_a_name_a_tag_and_its_errors() {
    let document = document();
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .expect("tags")
        .iter()
        .map(|tag| tag["name"].as_str().expect("a name"))
        .collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().expect("an id");
        assert!(ids.insert(id), "{id} is used twice");
        let (verb, resource) = id.split_once('_').expect("verb_resource");
        assert!(!verb.is_empty() && !resource.is_empty(), "{id}");
        let tag = operation["tags"][0].as_str().expect("a tag");
        assert!(tags.contains(tag), "{name}: the tag {tag} is not described");
        assert!(operation["summary"].is_string(), "{name} has no summary");
        let responses = operation["responses"].as_object().expect("responses");
        let succeeds = |status: &String| status.starts_with('2') || status == "101";
        assert!(responses.keys().any(succeeds), "{name}");
        let mut expected = vec!["400", "408", "414", "431", "500", "503"];
        if operation.get("requestBody").is_some() {
            expected.extend(["413", "415", "422"]);
        }
        if name.contains('{') {
            expected.extend(["404", "422"]);
        }
        for status in expected {
            let response = &responses[status];
            let resolved = match response["$ref"].as_str() {
                Some(at) => document.pointer(&at[1..]).expect("the reference leads somewhere"),
                None => response,
            };
            let schema = &resolved["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{name} {status}");
        }
    }
}

#[test]
fn every_code_is_told_with_its_status() {
    let document = document();
    for code in ErrorCode::ALL {
        let name = format!("Problem{}", code.status().as_u16());
        let told = &document["components"]["responses"][&name]["description"];
        let told = told.as_str().unwrap_or_default();
        assert!(told.contains(&format!("`{}`", code.as_str())), "{name}: {told}");
    }
}

#[tokio::test]
async fn the_explorer_loads_nothing_from_elsewhere() {
    let lifecycle = Lifecycle::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let router: Router = docs::router(openapi::document(), asyncapi::document());
    lifecycle.spawn(serve(listener, router, lifecycle.clone(), AcceptSettings::default()));
    let fetch = async |path: &str| {
        let answer = reqwest::get(format!("{base}{path}")).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let policy = answer.headers().get("content-security-policy").cloned();
        (policy, answer.text().await.expect("text"))
    };

    assert_eq!(fetch("/openapi.json").await.1, openapi::document());
    assert_eq!(fetch("/asyncapi.json").await.1, asyncapi::document());
    let (policy, page) = fetch("/docs").await;
    let policy = policy.expect("a policy");
    assert!(policy.to_str().expect("ASCII").starts_with("default-src 'self';"), "{policy:?}");
    let mut loaded = Vec::new();
    for attribute in ["src=\"", "href=\""] {
        let found = page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
        loaded.extend(found.map(str::to_owned));
    }
    assert!(loaded.iter().any(|file| file.ends_with("swagger-initializer.js")), "{page}");
    for file in loaded {
        assert!(!file.contains("//"), "the page loads {file}");
        fetch(&format!("/docs/{}", file.trim_start_matches("./"))).await;
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    let (_, initializer) = fetch("/docs/swagger-initializer.js").await;
    assert!(!initializer.contains("http"), "{initializer}");
    assert!(initializer.contains("\"validatorUrl\": \"none\""), "{initializer}");
    assert!(initializer.contains("\"tryItOutEnabled\": true"), "{initializer}");
    assert!(initializer.contains("/openapi.json"), "{initializer}");
    let missing = reqwest::get(format!("{base}/docs/nothing.js")).await.expect("an answer");
    assert_eq!(missing.status(), 404);
}
