//! One switch's driver: OpenFlow messages in, facts out; effects in, messages out.
