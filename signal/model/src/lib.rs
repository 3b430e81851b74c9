//! The words every other crate shares: ids, names, path grammars and the WebSocket protocol.
//!
//! This crate performs no I/O and knows neither tokio nor any media library. Read [`protocol`]
//! first: it is the only place that knows the JSON of the WebSocket messages.
//!
//! ```
//! use seodang_model::{DisplayName, RoomNumber, StorageName};
//!
//! let number: RoomNumber = "math-7b".parse().expect("letters, digits and hyphens");
//! let name = DisplayName::parse("  김민수 ").expect("a plain name");
//! assert_eq!(name.as_str(), "김민수");
//! let stored = StorageName::for_display(&name).numbered(2);
//! assert_eq!(format!("{number}/{}", stored.as_str()), "math-7b/김민수-2");
//! ```

mod id;
mod name;
mod path;
pub mod protocol;
mod publication;
mod token;

pub use id::{CaptureId, LessonId, ParseIdError, ParticipantId, PersonId, RecordingId, RoomId};
pub use name::{DisplayName, NameError, RoomNumber, RoomTitle, StorageName};
pub use path::{CapturePath, LessonFolder, PathGrammarError, RecordingKind, RecordingPath};
pub use publication::{MediaKind, Publication, Rights, Role, RoomKind, Source};
pub use token::{Token, TokenHash};
