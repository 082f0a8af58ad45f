//! From an event to a request.

use serde_json::{Map, Value};

use super::packet::Event;
use crate::domain::Said;
use crate::wire::fields::{Fault, invalid, optional_user, profile, required};
use crate::wire::format::Format;
use crate::wire::json::room_id;
use crate::wire::message::{BadRequest, ClientMessage, ErrorCode, Request, RequestLimits};
use crate::wire::native;

/// Most arguments of an event. No request needs more than two.
const ARGUMENTS_MAX: usize = 4;

/// Events of the seeds' clients about messages. Presence does not carry them.
const NOT_AVAILABLE: [&str; 4] = ["send_private_message", "join_conversation", "new-message", "send-message"];

impl Event<'_> {
    /// What the client asks for. The digits of its acknowledgement are the reference.
    ///
    /// # Errors
    /// There is no request of this name, or an argument is wrong.
    pub(crate) fn request(self, limits: RequestLimits) -> Result<ClientMessage, BadRequest> {
        let reference = self.ack.map(str::to_owned);
        let request = fields(&self.name, self.arguments).and_then(|fields| read(&self.name, fields, limits));
        match request {
            Ok(request) => Ok(ClientMessage { request, reference }),
            Err((code, message)) => Err(BadRequest { code, message, reference }),
        }
    }

    /// The tongue of a client whose first event has this name. It matters only if there is a request of this name.
    pub(crate) fn tongue(&self) -> Format {
        match self.name.as_str() {
            "authenticate" | "get-online-users" | "join-chat-session" | "leave-chat-session" | "typing-start"
            | "typing-stop" | "ping" => Format::SocketioStatus,
            "join-room" | "leave-room" => Format::SocketioRoom,
            _ => Format::Socketio,
        }
    }

    /// Whether the client wants to say who it is, as with [`Request::joins`].
    pub(crate) fn joins(&self) -> bool {
        matches!(self.name.as_str(), "authenticate" | "join_user")
    }
}

/// The request of this name. The tongues' own names stand for native ones.
fn read(name: &str, mut fields: Map<String, Value>, limits: RequestLimits) -> Result<Request, Fault> {
    let native_name = match name {
        _ if NOT_AVAILABLE.contains(&name) => {
            return Err((ErrorCode::NotAvailable, "there are no messages here: presence only".to_owned()));
        }
        "join-room" => return enter_room(&fields, limits),
        "leave-room" => "leave_room",
        "get-online-users" => "get_online_users",
        "join-chat-session" => "join_room",
        "leave-chat-session" => "leave_room",
        "typing-start" => "typing_start",
        "typing-stop" => "typing_stop",
        "ping" => "user_activity",
        native => native,
    };
    // S1 calls a room so.
    if native_name != name
        && let Some(room) = fields.remove("chatSessionId")
    {
        fields.insert("roomId".to_owned(), room);
    }
    native::request::request(native_name, &fields, limits)
}

fn enter_room(fields: &Map<String, Value>, limits: RequestLimits) -> Result<Request, Fault> {
    let room = room_id(required(fields, "roomId")?).map_err(|what| invalid("roomId", &what))?;
    let said = Said { profile: profile(fields, limits.profile)?.map(Some), status: None };
    Ok(Request::EnterRoom { user: optional_user(fields)?, said, room })
}

/// The arguments as the fields of a native request. An object has fields. Another value is the one field that the request is
/// mostly about. Objects after it have further fields.
fn fields(name: &str, arguments: Vec<Value>) -> Result<Map<String, Value>, Fault> {
    if arguments.len() > ARGUMENTS_MAX {
        return Err((ErrorCode::InvalidField, format!("an event has at most {ARGUMENTS_MAX} arguments")));
    }
    let mut fields = Map::new();
    for (index, argument) in arguments.into_iter().enumerate() {
        match (argument, bare(name)) {
            (Value::Null, _) => {}
            (Value::Object(members), _) => fields.extend(members),
            (_, Bare::Ignored) => {}
            (value, Bare::Field(field)) if index == 0 => _ = fields.insert(field.to_owned(), value),
            _ => return Err(invalid("arguments", "must be an object, or one value that the event is about")),
        }
    }
    Ok(fields)
}

/// What an argument is that is no object.
enum Bare {
    /// This field.
    Field(&'static str),
    /// Nothing. The seeds' clients name their own user, who is known.
    Ignored,
    /// It is wrong.
    Wrong,
}

fn bare(name: &str) -> Bare {
    match name {
        "user_online" | "user_activity" | "ping" => Bare::Ignored,
        "join_user" | "check_user_online" | "authenticate" => Bare::Field("userId"),
        "join_room" | "leave_room" | "get_room_users" | "get_room_count" | "typing_start" | "typing_stop"
        | "leave-room" => Bare::Field("roomId"),
        "join-chat-session" | "leave-chat-session" | "typing-start" | "typing-stop" => Bare::Field("chatSessionId"),
        "watch" | "unwatch" => Bare::Field("userIds"),
        "set_status" => Bare::Field("status"),
        "subscribe" => Bare::Field("presence"),
        _ => Bare::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::packet::Packet;
    use super::*;
    use crate::domain::{ProfileLimits, RoomId, UserId};
    use crate::wire::message::Request;

    const LIMITS: RequestLimits = RequestLimits {
        profile: ProfileLimits { fields_bytes: 100, metadata_bytes: 50 },
        page_max: 1000,
        watches_max: 3,
        rooms_max: 3,
    };

    fn request(name: &str, arguments: Value) -> Result<Request, ErrorCode> {
        let mut payload = vec![json!(name)];
        payload.extend(arguments.as_array().unwrap().clone());
        let text = format!("427{}", Value::from(payload));
        let Ok(Packet::Event(event)) = Packet::read(&text) else { panic!("{text}") };
        let request = event.request(LIMITS);
        let reference = match &request {
            Ok(message) => &message.reference,
            Err(bad) => &bad.reference,
        };
        assert_eq!(reference.as_deref(), Some("7"), "{text}");
        request.map(|message| message.request).map_err(|bad| bad.code)
    }

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn arguments_are_values_or_objects() {
        for arguments in [json!([42]), json!(["42"]), json!([{"userId": 42}]), json!([42, null]), json!([42, {"x": 1}])]
        {
            let joined = request("join_user", arguments.clone()).unwrap();
            assert!(matches!(joined, Request::Join { user: Some(id), .. } if id == user("42")), "{arguments}");
        }
        let named = request("join_user", json!(["42", {"name": "Ann"}])).unwrap();
        let Request::Join { said, .. } = named else { panic!("{named:?}") };
        assert_eq!(said.profile.unwrap().unwrap().members(), r#""name":"Ann""#);
        assert_eq!(request("check_user_online", json!(["a"])), Ok(Request::Check { user: user("a") }));
        let room = RoomId::parse("7").unwrap();
        assert_eq!(request("get_room_count", json!([7])), Ok(Request::RoomCount { room }));
        assert_eq!(request("watch", json!([["a"]])), Ok(Request::Watch { users: vec![user("a")] }));
        for arguments in [json!([]), json!([42]), json!([{"userId": 42}])] {
            assert_eq!(request("user_online", arguments.clone()), Ok(Request::Activity { idle: false }), "{arguments}");
        }
        assert_eq!(request("get_online_users", json!([])), Ok(Request::List { limit: None, cursor: None }));
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        for (name, arguments, code) in [
            ("dance", json!([]), ErrorCode::UnknownType),
            ("send_private_message", json!([{"to": 1}]), ErrorCode::NotAvailable),
            ("new-message", json!([]), ErrorCode::NotAvailable),
            ("join_user", json!([[]]), ErrorCode::InvalidField),
            ("join_user", json!(["a", "b"]), ErrorCode::InvalidField),
            ("join_user", json!([1, {}, {}, {}, {}]), ErrorCode::InvalidField),
            ("check_user_online", json!([]), ErrorCode::MissingField),
            ("leave", json!([1]), ErrorCode::InvalidField),
        ] {
            assert_eq!(request(name, arguments.clone()), Err(code), "{name} {arguments}");
        }
    }
}
