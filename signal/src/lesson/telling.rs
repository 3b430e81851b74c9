//! Who is told what: hosts more than students, everyone about oneself.

use seodang_model::ParticipantId;
use seodang_model::protocol::{Consents, RoomInfo, ServerMessage, UserInfo};

use super::{Lesson, Output, Seat, SocketId, send};

impl Lesson {
    /// What somebody is told who takes a seat.
    pub(super) fn greet(
        &mut self,
        participant: ParticipantId,
        socket: SocketId,
        room_info: RoomInfo,
        out: &mut Vec<Output>,
    ) {
        let seat = &self.seats[&participant];
        let is_host = seat.is_host();
        out.push(send(socket, ServerMessage::RoomInfo(room_info)));
        let users = self
            .by_arrival()
            .filter(|other| other.record.participant != participant)
            .map(|other| {
                if is_host {
                    other.info_for_hosts()
                } else {
                    other.info_for_students()
                }
            })
            .collect();
        out.push(send(socket, ServerMessage::AllUsers { users }));
        if let Some(seat) = self.seats.get_mut(&participant) {
            seat.told_kept = None;
        }
        self.tell_what_is_kept(out);
    }

    /// Tells everyone how a participant is.
    pub(super) fn announce(&self, participant: ParticipantId, out: &mut Vec<Output>) {
        let Some(seat) = self.seats.get(&participant) else {
            return;
        };
        if let Some(socket) = seat.socket {
            out.push(send(
                socket,
                ServerMessage::UserUpdate {
                    user: seat.info_for_itself(),
                },
            ));
        }
        let (students, hosts) = (seat.info_for_students(), seat.info_for_hosts());
        self.tell(
            participant,
            |user| ServerMessage::UserUpdate { user },
            students,
            hosts,
            out,
        );
    }

    /// Tells everyone but the participant itself; hosts see more.
    pub(super) fn tell(
        &self,
        about: ParticipantId,
        message: impl Fn(UserInfo) -> ServerMessage,
        to_students: UserInfo,
        to_hosts: UserInfo,
        out: &mut Vec<Output>,
    ) {
        let others = self
            .seats
            .values()
            .filter(|seat| seat.record.participant != about);
        let (hosts, students): (Vec<&Seat>, Vec<&Seat>) = others.partition(|seat| seat.is_host());
        for (seats, user) in [(hosts, to_hosts), (students, to_students)] {
            let to: Vec<SocketId> = seats.into_iter().filter_map(|seat| seat.socket).collect();
            if !to.is_empty() {
                out.push(Output::Send {
                    to,
                    message: Box::new(message(user)),
                });
            }
        }
    }

    /// Tells everyone to whom it is news what is being kept.
    pub(super) fn tell_what_is_kept(&mut self, out: &mut Vec<Output>) {
        let room = Consents {
            recording: self.seats.values().any(|seat| seat.kept.recording),
            captures: self.seats.values().any(|seat| seat.kept.captures),
        };
        for seat in self.seats.values_mut() {
            let Some(socket) = seat.socket else { continue };
            let news = (seat.kept, room);
            if seat.told_kept.replace(news) != Some(news) {
                out.push(send(
                    socket,
                    ServerMessage::RecordingState { you: seat.kept, room },
                ));
            }
        }
    }
}
