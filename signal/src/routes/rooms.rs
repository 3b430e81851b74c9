//! Rooms: make, list, look up, become host, close, look into.

use std::net::IpAddr;

use seodang_model::protocol::{ErrorCode, RoomSummary};
use seodang_model::{DisplayName, NameError, RoomKind, RoomTitle, Token};
use serde::{Deserialize, Serialize};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::SET_COOKIE;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use crate::auth::{self, Credentials};
use crate::error::{ApiError, json, reply};
use crate::hub::{LessonReport, NewRoom};
use crate::routes::{App, get_or_head};
use crate::server::Peer;

/// Longest body of a request, in bytes.
const MOST_BODY_BYTES: u64 = 4 * 1024;

/// Everything below `/api/v1/rooms` but files.
pub(super) fn routes(app: &App) -> BoxedFilter<(Response,)> {
    let context = app
        .filter()
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .map(|app, headers, Peer(peer): Peer| Request {
            app,
            headers,
            address: peer.ip(),
        });
    let body = || warp::body::content_length_limit(MOST_BODY_BYTES).and(warp::body::bytes());

    let create = warp::path!("api" / "v1" / "rooms")
        .and(warp::post())
        .and(context.clone())
        .and(body())
        .then(|request: Request, body| async move { reply(create(request, body).await) });
    let list = warp::path!("api" / "v1" / "rooms")
        .and(get_or_head())
        .and(context.clone())
        .then(|request: Request| async move { reply(list(request).await) });
    let look = warp::path!("api" / "v1" / "rooms" / String)
        .and(get_or_head())
        .and(context.clone())
        .then(|number: String, request| async move { reply(look(&number, request).await) });
    let host = warp::path!("api" / "v1" / "rooms" / String / "host")
        .and(warp::post())
        .and(context.clone())
        .then(|number: String, request| async move { reply(become_host(&number, request).await) });
    let close = warp::path!("api" / "v1" / "rooms" / String / "close")
        .and(warp::post())
        .and(context.clone())
        .and(body())
        .then(|number: String, request, body| async move { reply(close(&number, request, body).await) });
    let state = warp::path!("api" / "v1" / "rooms" / String / "state")
        .and(get_or_head())
        .and(context)
        .then(|number: String, request| async move { reply(state(&number, request).await) });
    create
        .or(list)
        .unify()
        .or(look)
        .unify()
        .or(host)
        .unify()
        .or(close)
        .unify()
        .or(state)
        .unify()
        .boxed()
}

/// Who asks.
struct Request {
    app: App,
    headers: HeaderMap,
    address: IpAddr,
}

impl Request {
    fn check_change(&self) -> Result<(), ApiError> {
        auth::check_change(&self.headers, self.app.config.public_url.as_deref())
    }

    async fn hosted(&self, number: &str) -> Result<crate::store::RoomRecord, ApiError> {
        self.app
            .hub
            .hosted_room(number, &Credentials::of(&self.headers), self.address)
            .await
    }
}

/// A room as the form of the start page describes it.
#[derive(Deserialize)]
struct CreateRoom {
    title: String,
    /// The host's nickname. It is checked here so that the form can complain; it is used on joining.
    name: String,
    #[serde(default)]
    number: Option<String>,
    kind: RoomKind,
    #[serde(default)]
    listed: bool,
    #[serde(default)]
    capacity: Option<u32>,
}

#[derive(Serialize)]
struct Created {
    room: RoomSummary,
    host_token: Token,
    links: Links,
}

/// Addresses to hand out.
#[derive(Serialize)]
struct Links {
    /// For everyone.
    class: String,
    /// For hosts: the token is in the fragment, which no browser sends anywhere.
    host: String,
    /// Where the files will be, for hosts.
    recordings: String,
}

async fn create(request: Request, body: bytes::Bytes) -> Result<Response, ApiError> {
    request.check_change()?;
    let wish: CreateRoom = parse(&body)?;
    let bad_name = |error: NameError| ApiError::new(ErrorCode::BadName, error.to_string());
    let bad_number = |error: NameError| ApiError::new(ErrorCode::BadNumber, error.to_string());
    DisplayName::parse(&wish.name).map_err(bad_name)?;
    let new = NewRoom {
        title: RoomTitle::parse(&wish.title).map_err(bad_name)?,
        number: match wish.number.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(text) => Some(text.parse().map_err(bad_number)?),
        },
        kind: wish.kind,
        listed: wish.listed,
        capacity: wish.capacity,
    };
    if !request.app.hub.may_create(request.address) {
        return Err(ApiError::new(
            ErrorCode::SlowDown,
            "too many rooms from this address; wait a minute",
        ));
    }
    let (room, host_token) = request.app.hub.create_room(new).await?;
    let class = format!("/class/{}", room.number);
    let links = Links {
        host: format!("{class}#host={}", host_token.as_str()),
        recordings: format!("/recordings/{}", room.number),
        class,
    };
    let cookie = auth::host_cookie(&room.number, &host_token, request.app.is_secure());
    let mut response = json(
        StatusCode::CREATED,
        &Created {
            room,
            host_token,
            links,
        },
    );
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

async fn list(request: Request) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Rooms {
        rooms: Vec<RoomSummary>,
    }
    let rooms = request.app.hub.listed_rooms().await?;
    Ok(json(StatusCode::OK, &Rooms { rooms }))
}

async fn look(number: &str, request: Request) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Room {
        room: RoomSummary,
    }
    let room = request.app.hub.room(number, request.address).await?;
    Ok(json(StatusCode::OK, &Room { room }))
}

/// Exchanges the token of a host link for the cookie.
async fn become_host(number: &str, request: Request) -> Result<Response, ApiError> {
    request.check_change()?;
    let credentials = Credentials::of(&request.headers);
    let Some(token) = credentials.bearer() else {
        return Err(ApiError::new(
            ErrorCode::Unauthorized,
            "the host token is missing",
        ));
    };
    let room = request.hosted(number).await?;
    // The cookie of this room alone could have opened it.
    if room.host_token_hash != token.hash() {
        return Err(ApiError::not_found());
    }
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let cookie = auth::host_cookie(&room.number, token, request.app.is_secure());
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

async fn close(number: &str, request: Request, body: bytes::Bytes) -> Result<Response, ApiError> {
    #[derive(Deserialize)]
    struct Close {
        keep_recordings: bool,
    }
    request.check_change()?;
    let room = request.hosted(number).await?;
    let Close { keep_recordings } = parse(&body)?;
    request.app.hub.close_room(&room, keep_recordings).await?;
    state_of(StatusCode::ACCEPTED, &request, &room).await
}

async fn state(number: &str, request: Request) -> Result<Response, ApiError> {
    let room = request.hosted(number).await?;
    state_of(StatusCode::OK, &request, &room).await
}

async fn state_of(
    status: StatusCode,
    request: &Request,
    room: &crate::store::RoomRecord,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct State {
        room: RoomSummary,
        lesson: Option<LessonReport>,
    }
    let lesson = request.app.hub.report(room).await?;
    Ok(json(
        status,
        &State {
            room: request.app.hub.summary(room),
            lesson,
        },
    ))
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|_| {
        ApiError::new(
            ErrorCode::BadMessage,
            "the body is not the JSON that is expected here",
        )
    })
}
