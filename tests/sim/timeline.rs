//! What goes in and out of a search, a line each, for whoever looks into a world that failed.

use cache_resolver::elapsed::Elapsed;
use cache_resolver::interface::{Input, Output};

/// Prints what has happened.
pub fn tell_input(now: Elapsed, input: &Input<'_>) {
    let what = match input {
        Input::Tick => return,
        Input::Network(network) => format!(
            "network: links {:?}, gateways {:?}, neighbours {:?}",
            network
                .interfaces
                .iter()
                .map(|interface| (interface.link.index, &interface.addresses))
                .collect::<Vec<_>>(),
            network.gateways,
            network.neighbours.iter().map(|neighbour| neighbour.remote).collect::<Vec<_>>(),
        ),
        Input::Received(channel, bytes) => format!("{channel:?} received {}", show(bytes)),
        Input::Mdns(datagram) => {
            let to = if datagram.multicast { "everybody" } else { "us" };
            format!("{} says to {to}: {}", datagram.source, show(datagram.payload))
        }
        Input::Arp(interface, bytes) => format!("ARP on {interface}: {}", show(bytes)),
        Input::Icmp(source, bytes) => format!("ICMP from {source}: {}", show(bytes)),
        other => format!("{other:?}"),
    };
    line(now, "<", &what);
}

/// Prints what the search wants done.
pub fn tell_output(now: Elapsed, output: &Output) {
    let what = match output {
        Output::Note(note) => return line(now, " ", &format!("{note:?}")),
        Output::OpenDatagram { channel, remote, datagram } => {
            format!("{channel:?} asks {remote}: {}", show(datagram))
        }
        Output::OpenStream { channel, remote, request } => {
            format!("{channel:?} connects to {remote}: {}", show(request))
        }
        Output::Send(channel, datagram) => format!("{channel:?} asks again: {}", show(datagram)),
        Output::AskMulticast { interface, family, question } => {
            format!("asks the {family:?} group on {interface}: {}", show(question))
        }
        Output::AskDirectly { host, question, .. } => format!("asks {host}: {}", show(question)),
        Output::AskArp { interface, packet } => {
            format!("asks on {interface} who has {:?}", &packet[24..])
        }
        Output::Ping { target, .. } => format!("pings {target}"),
        other => format!("{other:?}"),
    };
    line(now, ">", &what);
}

/// One line: when, whether in or out, what.
fn line(now: Elapsed, arrow: &str, what: &str) {
    let micros = now.as_micros();
    println!("{:>6}.{:03} ms {arrow} {what}", micros / 1000, micros % 1000);
}

/// Bytes, as far as a line has room for them.
fn show(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 120;
    let rest = bytes.len().saturating_sub(BYTES_MAX);
    let more = if rest == 0 { String::new() } else { format!(" and {rest} bytes more") };
    format!("\"{}\"{more}", bytes[..bytes.len() - rest].escape_ascii())
}
