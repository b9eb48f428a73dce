//! The co-simulation protocol between a real client and a real server, and with peers that hang,
//! die or send garbage.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tandem_fpga_card::Card;
use tandem_fpga_card::cosim::protocol::{Answer, Request};
use tandem_fpga_card::cosim::{BURST, CLIENTS, CosimCard, LINE, Server};
use tandem_fpga_card::lock::{Lock, LockError};
use tandem_fpga_card::memory_card::MemoryCard;
use tandem_fpga_card::target::{OpenError, Target};
use tandem_fpga_config::profile::{Profile, builtin};
use tandem_fpga_config::registers::{AccessError, Registers, UNMAPPED};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(100);

fn profile() -> Profile {
    builtin::named("openflow-switch").expect("a profile")
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("card");
    (folder, socket)
}

/// Serves a model. The thread ends with the test's process.
fn serve(socket: &Path) {
    let server = Server::bind(socket).expect("bound");
    std::thread::spawn(move || server.run(MemoryCard::new(profile())));
}

/// A peer that runs `deed` on its first connection.
fn peer(socket: &Path, deed: impl FnOnce(UnixStream) + Send + 'static) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("bound");
    std::thread::spawn(move || deed(listener.accept().expect("a client").0))
}

#[test]
fn a_served_card_is_read_written_and_given_packets() {
    let (_folder, socket) = folder();
    serve(&socket);
    let mut card = CosimCard::connect(&socket, LONG).expect("connected");
    assert_eq!(card.read32(0).expect("read"), 1 << 24 | 4);
    card.write32(0x20, 0xcafe).expect("written");
    assert_eq!(card.read32(0x20).expect("read"), 0xcafe);
    assert_eq!(card.read32(0x300_0000).expect("read"), UNMAPPED);
    // Row 0 sends everything to queue 2, as a user would type it.
    for (address, value) in
        [(0x200_1000, 1 << 2)].into_iter().chain((0..8).map(|n| (0x200_1028 + 4 * n, u32::MAX)))
    {
        card.write32(address, value).expect("written");
    }
    card.write32(0x200_106c, 0).expect("committed");
    assert_eq!(card.inject(0, &[7; 60]).expect("injected"), [(2, vec![7; 60])]);
    assert_eq!(card.inject(0, &[7; 9_018]).expect("a jumbo frame"), [(2, vec![7; 9_018])]);
    // As on the wire, where no frame is shorter than 60 bytes without FCS.
    let short = [vec![7; 42], vec![0; 18]].concat();
    assert_eq!(card.inject(0, &[7; 42]).expect("padded"), [(2, short.clone())]);
    assert_eq!(card.burst(&[(0, &[7; 42]), (2, &[7; 61])]).expect("padded"), [(2, short), (2, vec![7; 61])]);
    assert_eq!(card.inject(9, &[7; 60]).expect("no such queue: nothing leaves"), []);
    assert!(matches!(card.read32(0x800_0000), Err(AccessError::Address(_))), "never sent");
    assert_eq!(card.read32(0x20).expect("still in step"), 0xcafe);
}

/// Row 0 sends everything to queue 2.
fn all_to_queue_2(card: &mut CosimCard) {
    card.write32(0x200_1000, 1 << 2).expect("written");
    for n in 0..8 {
        card.write32(0x200_1028 + 4 * n, u32::MAX).expect("written");
    }
    card.write32(0x200_106c, 0).expect("committed");
}

/// A client's burst enters the card at once, and stops a card with faults for every other client
/// too, until a reset.
#[test]
fn a_burst_goes_in_at_once_and_meets_the_faults_of_a_card_that_has_them() {
    let mut tagged = [0x0b; 128];
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    let short = [0x0a; 60];
    let frames: [(u8, &[u8]); 2] = [(6, &tagged), (1, &short)];
    let both = [(2, tagged.to_vec()), (2, short.to_vec())];
    for faults in [false, true] {
        let (_folder, socket) = folder();
        let server = Server::bind(&socket).expect("bound");
        let model = MemoryCard::new(profile());
        let model = if faults { model.with_faults() } else { model };
        std::thread::spawn(move || server.run(model));
        let mut card = CosimCard::connect(&socket, LONG).expect("connected");
        let mut other = CosimCard::connect(&socket, LONG).expect("connected");
        all_to_queue_2(&mut card);
        for (queue, frame) in frames {
            assert_eq!(card.inject(queue, frame).expect("injected").len(), 1, "one by one they do nothing");
        }
        // Frames queued by one client without a `g` are not in the card.
        let sent = card.burst(&frames).expect("injected");
        let after = other.inject(0, &short).expect("injected");
        if !faults {
            assert_eq!((sent, after), (both.to_vec(), both[1..].to_vec()));
            continue;
        }
        assert_eq!(
            (sent, after),
            (both[..1].to_vec(), vec![]),
            "the second never leaves, nor does any other"
        );
        assert_eq!(
            other.read32(0x200_0038).expect("registers answer"),
            card.read32(0x200_0038).expect("read")
        );
        other.write32(0x008, 0x1_0100).expect("written");
        all_to_queue_2(&mut other);
        assert_eq!(other.inject(0, &short).expect("injected"), both[1..], "after a reset it forwards again");
    }
}

#[test]
fn a_burst_that_is_too_long_is_refused_and_belongs_to_its_own_client() {
    let (_folder, socket) = folder();
    serve(&socket);
    let mut card = CosimCard::connect(&socket, LONG).expect("connected");
    all_to_queue_2(&mut card);
    let frame = [7; 60];
    let frames: Vec<(u8, &[u8])> = vec![(0, &frame); BURST + 1];
    let error = card.burst(&frames).expect_err("too many").to_string();
    assert!(error.contains("64 frames wait already"), "{error}");
    // A burst belongs to one client's connection.
    let mut other = CosimCard::connect(&socket, LONG).expect("connected");
    assert_eq!(other.burst(&[]).expect("nothing goes in"), []);
    assert_eq!(card.burst(&[]).expect("those that waited").len(), BURST);
}

#[test]
fn nonsense_is_refused_line_by_line_and_the_connection_goes_on() {
    let (_folder, socket) = folder();
    serve(&socket);
    let stream = UnixStream::connect(&socket).expect("connected");
    let mut lines = BufReader::new(&stream).lines();
    for (line, wanted) in [
        ("r 20", "00000000"),
        ("r 0x20", "! "),
        ("w 20", "! "),
        ("w 20 1 2", "! "),
        ("x", "! "),
        ("", "! "),
        ("p 0 abc", "! "),
        ("p 100 ab", "! "),
        ("r 8000000", "! "),
        ("w 020 0000002a", "ok"),
        ("r 20", "0000002a"),
    ] {
        writeln!(&stream, "{line}").expect("sent");
        let answer = lines.next().expect("an answer").expect("text");
        assert!(answer.starts_with(wanted), "{line}: {answer}");
    }
    write!(&stream, "r 20\nr 20\nr 20\n").expect("several at once");
    assert_eq!((&mut lines).take(3).map(|l| l.expect("text")).collect::<Vec<_>>(), ["0000002a"; 3]);
}

#[test]
fn a_line_without_end_ends_only_its_own_connection() {
    let (_folder, socket) = folder();
    serve(&socket);
    let mut stream = UnixStream::connect(&socket).expect("connected");
    // The server may close before all is sent.
    let _ = stream.write_all(&vec![b'r'; LINE + 1]);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let mut other = CosimCard::connect(&socket, LONG).expect("others are served");
    assert_eq!(other.read32(0x20).expect("read"), 0);
}

#[test]
fn one_client_too_many_is_told_so() {
    let (_folder, socket) = folder();
    serve(&socket);
    let mut cards: Vec<CosimCard> =
        (0..CLIENTS).map(|_| CosimCard::connect(&socket, LONG).expect("connected")).collect();
    for card in &mut cards {
        card.read32(0).expect("served");
    }
    let mut more = BufReader::new(UnixStream::connect(&socket).expect("connected"));
    let mut line = String::new();
    more.read_line(&mut line).expect("told");
    assert!(line.starts_with("! 16 clients"), "{line}");
}

#[test]
fn a_peer_that_hangs_is_given_up_and_never_asked_again() {
    let (_folder, socket) = folder();
    let hung = peer(&socket, |mut stream| {
        // Reads everything and answers nothing, until the client has disconnected.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut card = CosimCard::connect(&socket, SHORT).expect("connected");
    let error = card.read32(0x20).expect_err("nothing came");
    assert!(matches!(error, AccessError::TimedOut { within: SHORT, .. }), "{error}");
    let error = card.read32(0x20).expect_err("a late answer would be taken for this one's");
    assert!(matches!(error, AccessError::Closed(_)), "{error}");
    drop(card);
    hung.join().expect("ended");
}

#[test]
fn a_peer_that_dies_is_an_error_in_every_place() {
    for answer in ["", "0000", "ok"] {
        let (_folder, socket) = folder();
        let dies = peer(&socket, move |mut stream| {
            let mut line = [0; 10];
            let _ = stream.read_exact(&mut line);
            let _ = stream.write_all(answer.as_bytes());
        });
        let mut card = CosimCard::connect(&socket, LONG).expect("connected");
        let error = card.read32(0x20).expect_err("no whole line");
        assert!(matches!(error, AccessError::Closed(_)), "{answer}: {error}");
        dies.join().expect("ended");
        assert!(card.write32(0x20, 0).is_err());
    }
}

#[test]
fn a_peer_that_answers_something_else_is_an_error_and_of_no_more_use() {
    for answer in ["ok\n", "hello\n", "p 0 00\n", "\u{ff}\n", "123456789\n"] {
        let (_folder, socket) = folder();
        let strange = peer(&socket, move |mut stream| {
            let _ = stream.read_exact(&mut [0; 10]);
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut card = CosimCard::connect(&socket, LONG).expect("connected");
        assert!(matches!(card.read32(0x20), Err(AccessError::Failed { .. })), "{answer}");
        assert!(matches!(card.read32(0x20), Err(AccessError::Closed(_))), "{answer}");
        drop(card);
        strange.join().expect("ended");
    }
}

#[test]
fn a_refusal_is_said_in_the_peer_s_words_and_the_next_access_works() {
    let (_folder, socket) = folder();
    let refuses = peer(&socket, |stream| {
        let mut lines = BufReader::new(&stream).lines();
        lines.next();
        writeln!(&stream, "! no packets in this simulation").expect("sent");
        lines.next();
        writeln!(&stream, "7").expect("sent");
    });
    let mut card = CosimCard::connect(&socket, LONG).expect("connected");
    let error = card.inject(0, &[0; 60]).expect_err("refused").to_string();
    assert!(error.contains("no packets in this simulation"), "{error}");
    assert_eq!(card.read32(0x20).expect("read"), 7);
    refuses.join().expect("ended");
}

#[test]
fn a_card_that_answers_deadbeef_everywhere_is_not_opened() {
    for value in [UNMAPPED, u32::MAX, 0] {
        let (_folder, socket) = folder();
        let silent = peer(&socket, move |stream| {
            for _ in BufReader::new(&stream).lines().map_while(Result::ok) {
                writeln!(&stream, "{value:x}").expect("sent");
            }
        });
        let target: Target = format!("cosim:{}", socket.display()).parse().expect("a target");
        let error = target.open(&profile(), LONG).err().expect("no card");
        assert!(matches!(error, OpenError::Silent { .. }), "{error}");
        silent.join().expect("ended");
    }
}

#[test]
fn nobody_at_the_socket_is_an_error_that_names_it() {
    let (_folder, socket) = folder();
    let target = Target::Cosim(socket.clone());
    let error = target.open(&profile(), LONG).err().expect("nobody").to_string();
    assert!(error.contains(&socket.display().to_string()), "{error}");
}

#[test]
fn a_second_server_is_refused_and_a_dead_one_s_socket_is_taken_over() {
    let (_folder, socket) = folder();
    drop(UnixListener::bind(&socket).expect("bound"));
    let server = Server::bind(&socket).expect("the dead one's is taken over");
    assert!(Server::bind(&socket).is_err(), "the living one's is not");
    drop(server);
    assert!(!socket.exists());
    std::fs::write(&socket, "precious").expect("written");
    assert!(Server::bind(&socket).is_err());
    assert_eq!(std::fs::read(&socket).expect("still there"), b"precious");
}

#[test]
fn one_writer_per_card() {
    let (_folder, socket) = folder();
    serve(&socket);
    let target = Target::Cosim(socket.clone());
    let first = target.lock("the first").expect("free").expect("cosim cards have one");
    let error = target.lock("the second").expect_err("held");
    assert!(
        matches!(&error, LockError::Held { holder, .. } if holder.starts_with("the first (process ")),
        "{error}"
    );
    drop(first);
    let path = target.lock_path().expect("a path");
    assert!(!path.exists(), "no file is left");
    let second = Lock::take(&path, "the second").expect("free again");
    drop(second);
    // A file left by a killed holder does not lock.
    std::fs::write(&path, "a dead one (process 1)\n").expect("written");
    drop(Lock::take(&path, "the third").expect("free"));
}

#[test]
fn lines_are_read_as_they_are_written() {
    for request in [
        Request::Read(0x200_1000),
        Request::Write(0x20, u32::MAX),
        Request::Packet(7, vec![0, 255, 18]),
        Request::Queue(7, vec![0, 255, 18]),
        Request::Go,
    ] {
        assert_eq!(Request::parse(&request.to_string()), Ok(request));
    }
    for answer in [
        Answer::Value(0xdead_beef),
        Answer::Done,
        Answer::Packet(3, vec![1]),
        Answer::Refused("no".to_owned()),
    ] {
        assert_eq!(Answer::parse(&answer.to_string()), Ok(answer));
    }
    assert_eq!(Answer::Refused("a\nb".to_owned()).to_string(), "! a b", "one line, whatever it says");
}

#[test]
fn targets_are_named_as_documented() {
    for (text, wanted) in [
        ("model", Target::Model),
        ("ioctl:nf2c0", Target::Ioctl("nf2c0".into())),
        ("ioctl:/dev/nf10", Target::Ioctl("/dev/nf10".into())),
        ("mmap:0000:03:00.0", Target::Mmap("0000:03:00.0".into())),
        ("mmap:03:00.0", Target::Mmap("0000:03:00.0".into())),
        ("cosim:/run/a:b", Target::Cosim("/run/a:b".into())),
    ] {
        assert_eq!(text.parse(), Ok(wanted), "{text}");
    }
    for text in
        ["", "models", "ioctl:", "ioctl:../../x", "ioctl:a-name-that-is-too-long", "mmap:../x", "pci:1"]
    {
        assert!(text.parse::<Target>().is_err(), "{text}");
    }
}
