//! Flow rules as the words of the OpenFlow switch bitfile: keys, masks, actions, the two CRC rows, and the writes that commit them.
