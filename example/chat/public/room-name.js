// Used by the page and by the server: both must make the same channel of a title.

/** Characters of a title, and of the name in its channel. */
export const MAX_LENGTH = 32

/** What somebody typed, as the others see it. */
export function cleanTitle (text) {
  const title = text.replace(/\p{C}/gu, '').replace(/\s+/g, ' ').trim().replace(/^#+\s*/, '')
  return Array.from(title).slice(0, MAX_LENGTH).join('').trim()
}

/** The name of the room in its channel: "Über Design & Co" is in `uber-design-co`. */
export function roomName (title) {
  const plain = title.normalize('NFKD').replace(/[\u0300-\u036f]/g, '').normalize('NFC').toLowerCase()
  const name = plain.replace(/[^\p{Ll}\p{Lo}\p{M}\p{N}_]+/gu, '-').replace(/^-/, '')
  return Array.from(name).slice(0, MAX_LENGTH).join('').replace(/-$/, '')
}
