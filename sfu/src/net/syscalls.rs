//! The calls into the kernel, and every `unsafe` of the workspace.
//!
//! Each function takes slices and owned values, and the pointers it makes of them live no longer than its call.

#![expect(
    unsafe_code,
    reason = "recvmmsg, and sendmmsg with a segment size for each message, stand in no safe crate"
)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use libc::{c_int, c_uint, c_void, cmsghdr, iovec, mmsghdr, msghdr, socklen_t};

use super::name::Name;
use super::outgoing::{Message, Packet};

/// What the calls read and write beside the datagrams; kept, so that a call allocates nothing.
#[derive(Default)]
pub(super) struct Scratch {
    headers: Vec<mmsghdr>,
    pieces: Vec<iovec>,
    controls: Vec<SegmentControl>,
}

// SAFETY: the vectors are emptied before a call returns, so no pointer in them is ever seen by another thread.
unsafe impl Send for Scratch {}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

/// A control message that says where the kernel cuts (cmsg(3), udp(7)).
#[repr(C)]
#[derive(Clone, Copy)]
struct SegmentControl {
    header: cmsghdr,
    segment_bytes: u16,
}

// SAFETY: pure arithmetic.
const SEGMENT_SPACE: usize = unsafe { libc::CMSG_SPACE(size_of::<u16>() as c_uint) } as usize;
/// The struct is what the macros of cmsg(3) would lay out.
const _: () = assert!(size_of::<SegmentControl>() == SEGMENT_SPACE);

/// A datagram that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) length: usize,
    /// Not longer than the room for it.
    pub(super) whole: bool,
}

/// What [`send`] sends.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) packets: &'a [Packet],
    pub(super) messages: &'a [Message],
}

/// Messages that one call takes (`UIO_MAXIOV` of the kernel).
const MOST_MESSAGES: usize = 1_024;

/// Sends messages in order and returns how many went, at least one. Not `many`: the first alone, by sendmsg(2).
///
/// # Errors
/// Why the first one could not be sent.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    batch: &Batch<'_>,
    scratch: &mut Scratch,
    many: bool,
) -> io::Result<usize> {
    let messages = &batch.messages[..batch.messages.len().min(MOST_MESSAGES)];
    scratch.clear();
    for message in messages {
        scratch.controls.push(SegmentControl::new(message.segment_bytes));
        for packet in &batch.packets[message.packets.clone()] {
            let start = packet.start as usize;
            let bytes = &batch.bytes[start..start + usize::from(packet.length)];
            scratch.pieces.push(iovec {
                // The kernel only reads what is sent.
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
        }
    }
    let (pieces, controls) = (scratch.pieces.as_mut_ptr(), scratch.controls.as_mut_ptr());
    let mut first_piece = 0;
    for (place, message) in messages.iter().enumerate() {
        let mut header = empty_header();
        header.msg_name = message.to.as_ptr().cast_mut().cast();
        header.msg_namelen = message.to.length();
        // SAFETY: the loop above pushed one piece for each packet of each message, in this order.
        header.msg_iov = unsafe { pieces.add(first_piece) };
        header.msg_iovlen = message.packets.len() as _;
        if message.segment_bytes != 0 {
            // SAFETY: the loop above pushed one control for each message.
            header.msg_control = unsafe { controls.add(place) }.cast();
            header.msg_controllen = SEGMENT_SPACE as _;
        }
        first_piece += message.packets.len();
        scratch.headers.push(mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        });
    }
    let headers = scratch.headers.as_mut_ptr();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `headers` has as many entries as are given; each points to an address, pieces and a control of the stated
    // lengths, all borrowed or owned by this function until it returns.
    let result = unsafe {
        if many {
            let most = messages.len() as c_uint;
            libc::sendmmsg(socket.as_raw_fd(), headers, most, flags as _) as isize
        } else {
            libc::sendmsg(socket.as_raw_fd(), &raw const (*headers).msg_hdr, flags).min(1)
        }
    };
    let result = count(result);
    scratch.clear();
    result
}

/// Reads datagrams that wait into the given rooms, as many as there are names, and notes them in order. Not `many`: one
/// alone, by recvmsg(2).
///
/// # Errors
/// Why there is none.
pub(super) fn receive<'a>(
    socket: BorrowedFd<'_>,
    rooms: impl Iterator<Item = &'a mut [u8]>,
    names: &mut [Name],
    arrived: &mut Vec<Arrived>,
    scratch: &mut Scratch,
    many: bool,
) -> io::Result<()> {
    scratch.clear();
    scratch.pieces.extend(rooms.take(names.len()).map(|room| iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    }));
    let places = scratch.pieces.len();
    let pieces = scratch.pieces.as_mut_ptr();
    for (place, name) in names[..places].iter_mut().enumerate() {
        let mut header = empty_header();
        header.msg_name = name.as_mut_ptr().cast();
        header.msg_namelen = Name::BYTES as socklen_t;
        // SAFETY: `place` is below the number of pieces.
        header.msg_iov = unsafe { pieces.add(place) };
        header.msg_iovlen = 1;
        scratch.headers.push(mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        });
    }
    let headers = scratch.headers.as_mut_ptr();
    // SAFETY: `headers` has `places` entries; each points to a name and a room of the stated lengths, which are borrowed
    // mutably until this function returns and do not overlap.
    let result = unsafe {
        if many {
            let (most, no_timeout) = (places as c_uint, std::ptr::null_mut());
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers,
                most,
                libc::MSG_DONTWAIT as _,
                no_timeout,
            ) as isize
        } else {
            let length = libc::recvmsg(
                socket.as_raw_fd(),
                &raw mut (*headers).msg_hdr,
                libc::MSG_DONTWAIT,
            );
            (*headers).msg_len = c_uint::try_from(length).unwrap_or_default();
            // A datagram without bytes is one all the same.
            if length < 0 { length } else { 1 }
        }
    };
    let result = count(result);
    if let Ok(read) = result {
        arrived.extend(scratch.headers[..read].iter().map(|header| Arrived {
            length: header.msg_len as usize,
            whole: header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0,
        }));
    }
    scratch.clear();
    result.map(|_| ())
}

/// Sets an option whose value is a number.
///
/// # Errors
/// When the kernel does not know or allow it.
pub(super) fn set_option(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: c_int,
) -> io::Result<()> {
    let length = size_of::<c_int>() as socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast::<c_void>(),
            length,
        )
    };
    count(result as isize).map(|_| ())
}

/// Datagrams that the socket dropped since it was opened (`SO_MEMINFO`; the number that `SO_RXQ_OVFL` puts beside later
/// datagrams, but without one).
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
    let mut values = [0_u32; DROPS + 1];
    let mut length = size_of_val(&values) as socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which `values` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    count(result as isize).map(|_| values[DROPS])
}

impl Scratch {
    fn clear(&mut self) {
        self.headers.clear();
        self.pieces.clear();
        self.controls.clear();
    }
}

impl SegmentControl {
    fn new(segment_bytes: u16) -> Self {
        // SAFETY: integers and padding, for which zeros are a value.
        let mut header: cmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: pure arithmetic.
        header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<u16>() as c_uint) } as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        Self {
            header,
            segment_bytes,
        }
    }
}

fn empty_header() -> msghdr {
    // SAFETY: integers and pointers, for which zeros are a value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// A call's result; negative is an error.
fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
