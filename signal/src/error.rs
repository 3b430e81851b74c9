//! What every route answers when something cannot be done: `{"error": {"code", "message"}}` and its status.

use std::convert::Infallible;

use seodang_model::protocol::{ErrorCode, ErrorInfo};
use serde::Serialize;
use warp::Rejection;
use warp::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::Response;

/// A request that is not carried out, with the stable code programs read and a sentence for people.
///
/// The sentence never repeats what was sent: it may hold a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Stable word; decides the status.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl ApiError {
    /// An error with a sentence of its own.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// What is answered for a wrong address and for somebody else's room alike.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "there is nothing at this address")
    }

    /// A fault on our side; log the cause before answering with it.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            ErrorCode::Internal,
            "something went wrong on the server; nothing was done",
        )
    }

    /// The HTTP answer.
    #[must_use]
    pub fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: ErrorInfo,
        }
        let status =
            StatusCode::from_u16(self.code.http_status()).expect("every error code names a status of HTTP");
        let error = ErrorInfo {
            code: self.code,
            message: self.message,
            reply_to: None,
            nonce: None,
        };
        let mut response = json(status, &Body { error });
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert("retry-after", HeaderValue::from_static("5"));
        }
        response
    }
}

impl warp::reject::Reject for ApiError {}

/// A JSON answer that no cache keeps.
///
/// # Panics
/// When `body` has a map with keys that are no texts; none of ours has.
pub fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let text = serde_json::to_vec(body).expect("answers are plain structs with text keys");
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Turns the outcome of a handler into its answer.
pub fn reply(outcome: Result<Response, ApiError>) -> Response {
    outcome.unwrap_or_else(ApiError::into_response)
}

/// The one place where rejected requests get their answer.
///
/// # Errors
/// Never; the type is what warp's `recover` asks for.
pub async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    Ok(of_rejection(&rejection).into_response())
}

/// warp's own rejections in our words.
fn of_rejection(rejection: &Rejection) -> ApiError {
    use warp::reject as known;
    if let Some(error) = rejection.find::<ApiError>() {
        error.clone()
    } else if rejection.is_not_found() {
        ApiError::not_found()
    } else if rejection.find::<known::PayloadTooLarge>().is_some()
        || rejection.find::<known::LengthRequired>().is_some()
    {
        ApiError::new(
            ErrorCode::TooLarge,
            "the body is too large or does not say how long it is",
        )
    } else if rejection.find::<known::MethodNotAllowed>().is_some() {
        // The address exists for another method; telling which would make this a second routing table.
        ApiError::not_found()
    } else if rejection
        .find::<warp::filters::body::BodyDeserializeError>()
        .is_some()
        || rejection.find::<known::UnsupportedMediaType>().is_some()
    {
        ApiError::new(
            ErrorCode::BadMessage,
            "the body is not the JSON that is expected here",
        )
    } else {
        ApiError::new(
            ErrorCode::BadMessage,
            "the request misses something or has it in a wrong form",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_is_json_with_its_code_and_status() {
        let response = ApiError::new(ErrorCode::Full, "the room has no free seat").into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .expect("a body")
            .to_bytes();
        assert_eq!(
            &body[..],
            br#"{"error":{"code":"full","message":"the room has no free seat"}}"#
        );
    }

    #[test]
    fn every_code_has_a_status() {
        for code in ErrorCode::ALL {
            assert!(
                ApiError::new(*code, "x")
                    .into_response()
                    .status()
                    .is_client_error()
                    || code.http_status() >= 500
            );
        }
    }
}
