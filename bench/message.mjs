/** Bytes of a message: letter of the publisher, number, channel, filler. */
export const MESSAGE_BYTES = 128
/** Digits of a message's number, 5 bits each, from '0' on: none needs escaping in JSON. */
const DIGITS = 4
/** Decimal digits of a channel. */
const CHANNEL_DIGITS = 5
const CHANNEL_AT = 1 + DIGITS
const ZERO = 48
const LETTER_A = 65

/** All names are of one length, so that a message stands at the same place in every frame. */
export const channelName = channel => `room${String(channel).padStart(CHANNEL_DIGITS, '0')}`

/** For the servers: where the publisher wants its message to go. */
export const channelOf = text => `room${text.slice(CHANNEL_AT, CHANNEL_AT + CHANNEL_DIGITS)}`

export function writeMessage (publisher, number, channel) {
  let digits = ''
  for (let shift = 5 * (DIGITS - 1); shift >= 0; shift -= 5) digits += String.fromCharCode(ZERO + (number >> shift & 31))
  return `${String.fromCharCode(LETTER_A + publisher)}${digits}${String(channel).padStart(CHANNEL_DIGITS, '0')}`.padEnd(MESSAGE_BYTES, '.')
}

export const publisherAt = (bytes, at) => bytes[at] - LETTER_A

export function numberAt (bytes, at) {
  let number = 0
  for (let i = 1; i <= DIGITS; i++) number = number << 5 | bytes[at + i] - ZERO
  return number
}

export function channelAt (bytes, at) {
  let channel = 0
  for (let i = 0; i < CHANNEL_DIGITS; i++) channel = channel * 10 + bytes[at + CHANNEL_AT + i] - ZERO
  return channel
}
