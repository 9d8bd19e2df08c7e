//! The OpenAPI document: what the handlers say, plus what is true of all of them, said once.

use utoipa::openapi::{
    Components, Content, ContentBuilder, Header, Info, License, Object, OpenApi, OpenApiBuilder,
    Ref, RefOr, Response, ResponseBuilder, Tag, Type,
    path::{Operation, ParameterIn},
    schema::Schema,
    tag::TagBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::error::{ErrorCode, PROBLEM_JSON, ProblemBody};

const TAGS: [(&str, &str); 6] = [
    ("topics", "Ordered, replayable logs of messages, split into partitions."),
    ("groups", "Members that share the reading of topics and remember how far they are."),
    ("streams", "Messages pushed as they come: sockets and Server-Sent Events."),
    ("nodes", "The processes that serve one database."),
    ("limits", "What a client may ask for."),
    ("ops", "For load balancers and monitoring."),
];

/// What any request can be answered.
const ALWAYS: [u16; 6] = [400, 408, 414, 431, 500, 503];
/// What a request with a body can be answered too.
const WITH_BODY: [u16; 3] = [413, 415, 422];

/// The document without its operations.
pub(super) fn head() -> OpenApi {
    let license = License::new("Apache-2.0");
    let mut info = Info::new("Postrider", env!("CARGO_PKG_VERSION"));
    info.license = Some(license);
    info.description = Some(
        "A message queue service on PostgreSQL. Every error is a problem (RFC 9457) with a stable \
         `code`; `effect` says whether something may have happened."
            .to_owned(),
    );
    let tags = TAGS.map(|(name, told)| tag(name, told));
    OpenApiBuilder::new().info(info).tags(Some(tags)).build()
}

fn tag(name: &str, told: &str) -> Tag {
    TagBuilder::new().name(name).description(Some(told)).build()
}

/// Adds to every operation the errors that follow from its kind: what the way in can say of any
/// request, what a body, a parameter or a resource in the path bring with them.
pub(super) fn complete(openapi: &mut OpenApi) {
    let components = openapi.components.get_or_insert_with(Components::new);
    components.schemas.insert(ProblemBody::name().into_owned(), ProblemBody::schema());
    let mut schemas = Vec::new();
    ProblemBody::schemas(&mut schemas);
    components.schemas.extend(schemas);
    for status in statuses() {
        components.responses.insert(problem_name(status), RefOr::T(problem_response(status)));
    }
    for item in openapi.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
            &mut item.head,
            &mut item.options,
        ];
        for operation in operations.into_iter().flatten() {
            complete_operation(operation);
        }
    }
}

fn complete_operation(operation: &mut Operation) {
    let places = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(&parameter.parameter_in),
        RefOr::Ref(_) => None,
    });
    let has_path = places.clone().any(|place| matches!(place, ParameterIn::Path));
    let has_query = places.clone().any(|place| matches!(place, ParameterIn::Query));
    let mut statuses = ALWAYS.to_vec();
    if operation.request_body.is_some() {
        statuses.extend(WITH_BODY);
    }
    if has_path {
        statuses.extend([404, 422]);
    }
    if has_query {
        statuses.push(422);
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.headers.insert("X-Request-Id".to_owned(), request_id_header().into());
        }
    }
    for status in statuses {
        let reference = RefOr::Ref(Ref::from_response_name(problem_name(status)));
        operation.responses.responses.entry(status.to_string()).or_insert(reference);
    }
}

/// The statuses of all codes.
fn statuses() -> Vec<u16> {
    let mut statuses: Vec<u16> = ErrorCode::ALL.map(|code| code.status().as_u16()).to_vec();
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

fn problem_name(status: u16) -> String {
    format!("Problem{status}")
}

fn problem_response(status: u16) -> Response {
    let codes = ErrorCode::ALL.into_iter().filter(|code| code.status().as_u16() == status);
    let names: Vec<String> = codes.map(|code| format!("`{}`", code.as_str())).collect();
    let mut response = ResponseBuilder::new()
        .description(format!("A problem with one of the codes {}.", names.join(", ")))
        .content(PROBLEM_JSON, problem_content())
        .header("X-Request-Id", request_id_header());
    if status == 503 {
        let mut header = Header::new(Schema::Object(Object::with_type(Type::Integer)));
        header.description = Some("After how many seconds to try again.".to_owned());
        response = response.header("Retry-After", header);
    }
    response.build()
}

fn problem_content() -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemBody::name()))).build()
}

fn request_id_header() -> Header {
    let mut header = Header::new(Schema::Object(Object::with_type(Type::String)));
    header.description = Some("The id of the request.".to_owned());
    header
}

/// `openapi` as JSON for people and for diffs.
pub(super) fn written(openapi: &OpenApi) -> String {
    let mut text = openapi.to_pretty_json().expect("the document is plain JSON");
    text.push('\n');
    text
}

/// The document as it is committed at `openapi/openapi.json`.
pub fn document() -> String {
    written(&super::routes::description())
}
