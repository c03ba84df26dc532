//! Text formats, as `date-time` or `ipv4`.
