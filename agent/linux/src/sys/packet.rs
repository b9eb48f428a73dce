//! System calls of packet sockets (packet(7)) without a safe wrapper: binding without receiving,
//! options of the level SOL_PACKET, and many frames in one call, each with its metadata.

use nix::libc::{self, c_int, c_void, iovec, mmsghdr, msghdr, sockaddr_ll, socklen_t};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The most frames in one call.
pub(crate) const MOST: usize = 64;
/// linux/if_packet.h.
const AUXDATA: c_int = 8;
const STATISTICS: c_int = 6;
const IGNORE_OUTGOING: c_int = 23;

/// Metadata of a frame (struct tpacket_auxdata).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Aux {
    /// TP_STATUS bits.
    pub(crate) status: u32,
    /// The frame's length on the wire.
    pub(crate) length: u32,
    captured: u32,
    mac: u16,
    net: u16,
    /// The VLAN tag that was removed, if the status says that there was one.
    pub(crate) vlan_tci: u16,
    pub(crate) vlan_tpid: u16,
}

/// A received frame: its length, and its kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub(crate) length: usize,
    /// The frame was longer than the buffer.
    pub(crate) truncated: bool,
    /// PACKET_HOST, PACKET_OUTGOING and their like.
    pub(crate) kind: u8,
    pub(crate) aux: Option<Aux>,
}

/// Room for one control message with an [`Aux`], with the alignment of its header.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

fn set(fd: BorrowedFd<'_>, name: c_int, value: c_int) -> io::Result<()> {
    let pointer = (&raw const value).cast::<c_void>();
    // SAFETY: the kernel reads an int where one is.
    let outcome = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, name, pointer, size_of::<c_int>() as socklen_t)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Turns off the receiving of frames that this host sends (Linux 4.20).
pub(crate) fn ignore_outgoing(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, IGNORE_OUTGOING, 1)
}

/// Requests an [`Aux`] with each frame.
pub(crate) fn auxdata(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, AUXDATA, 1)
}

/// Frames received and frames dropped because the buffer was full, since the last call.
pub(crate) fn statistics(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut counts = [0u32; 2];
    let mut length = size_of::<[u32; 2]>() as socklen_t;
    // SAFETY: struct tpacket_stats has two unsigned ints; the kernel writes at most the length it
    // is given.
    let outcome = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            STATISTICS,
            counts.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome == 0 { Ok((counts[0], counts[1])) } else { Err(io::Error::last_os_error()) }
}

/// Binds a socket to an interface for sending only: to no protocol.
pub(crate) fn bind_to_send(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    // SAFETY: all its fields are integers, for which zeros are a value.
    let mut address: sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = i32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the address is one of this family, and as long as it says.
    let outcome = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<sockaddr_ll>() as socklen_t)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn empty_header() -> mmsghdr {
    // SAFETY: integers and pointers, for which zeros are a value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Receives up to [`MOST`] frames without blocking. Frame `n` begins `head` bytes behind `n * slot`
/// of `room`; its properties are appended to `out`.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    room: &mut [u8],
    slot: usize,
    head: usize,
    out: &mut Vec<Received>,
) -> io::Result<()> {
    // SAFETY (of each): integers, for which zeros are a value.
    let mut addresses: [sockaddr_ll; MOST] = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut controls = [Control([0; 64]); MOST];
    let mut parts = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MOST];
    let mut headers = [empty_header(); MOST];
    let mut count = 0;
    for (n, place) in room.chunks_exact_mut(slot).take(MOST).enumerate() {
        let Some(place) = place.get_mut(head..) else { break };
        parts[n] = iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
        let header = &mut headers[n].msg_hdr;
        header.msg_name = (&raw mut addresses[n]).cast();
        header.msg_namelen = size_of::<sockaddr_ll>() as socklen_t;
        header.msg_iov = &raw mut parts[n];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[n]).cast();
        header.msg_controllen = size_of::<Control>() as _;
        count += 1;
    }
    // SAFETY: each header points to an address, a part and a control buffer of its own that live
    // until the call returns; each part is a piece of `room` of its own.
    let got = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    for n in 0..got.min(MOST) {
        out.push(Received {
            length: (headers[n].msg_len as usize).min(parts[n].iov_len),
            truncated: headers[n].msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            kind: addresses[n].sll_pkttype,
            aux: aux(&headers[n].msg_hdr, &controls[n]),
        });
    }
    Ok(())
}

/// The [`Aux`] of a received message: the only control message that these sockets request, so the
/// first (cmsg(3)).
fn aux(header: &msghdr, control: &Control) -> Option<Aux> {
    let bytes = control.0.get(..header.msg_controllen as _)?;
    let start = size_of::<libc::cmsghdr>();
    let length = usize::from_ne_bytes(*bytes.first_chunk()?);
    let level = c_int::from_ne_bytes(*bytes.get(size_of::<usize>()..)?.first_chunk()?);
    let kind = c_int::from_ne_bytes(*bytes.get(size_of::<usize>() + 4..)?.first_chunk()?);
    if (level, kind) != (libc::SOL_PACKET, AUXDATA) || length < start + size_of::<Aux>() {
        return None;
    }
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(start + at..)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(start + at..)?.first_chunk()?));
    Some(Aux {
        status: word(0)?,
        length: word(4)?,
        captured: word(8)?,
        mac: half(12)?,
        net: half(14)?,
        vlan_tci: half(16)?,
        vlan_tpid: half(18)?,
    })
}

/// Sends up to [`MOST`] frames, given by their range in `data`. Returns how many were accepted; an
/// error is about the first.
pub(crate) fn send(fd: BorrowedFd<'_>, data: &[u8], frames: &[(u32, u32)]) -> io::Result<usize> {
    let mut parts = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MOST];
    let mut headers = [empty_header(); MOST];
    let mut count = 0;
    for (n, (start, end)) in frames.iter().take(MOST).enumerate() {
        let Some(frame) = data.get(*start as usize..*end as usize) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        parts[n] = iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
        headers[n].msg_hdr.msg_iov = &raw mut parts[n];
        headers[n].msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: each header points to a part of its own that lives until the call returns, and each
    // part to bytes of `data`, which the kernel only reads.
    let sent =
        unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
