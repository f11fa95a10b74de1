// What is published by compression.mjs. No two are alike, and each run publishes the same.
const words = ('the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not ' +
  'what all were we when your can said there use an each which she do how their if will up other about out many then them').split(' ')

/** The same for the same number; each number below 2 ** 31 may come. */
const scramble = number => Math.imul(number ^ number >>> 15, 0x2c1b3c6d) >>> 1
const sentence = (seed, count) => Array.from({ length: count }, (_, i) => words[scramble(seed * 101 + i) % words.length]).join(' ')
const id = seed => `${scramble(seed).toString(36)}${scramble(seed + 7_919).toString(36)}`

export const messages = {
  /** About 250 bytes. */
  chat: i => ({
    id: id(i),
    from: { id: scramble(i) % 1_000, name: sentence(i % 50, 2) },
    text: sentence(i + 1_000, 24),
    at: 1_790_000_000_000 + i * 137,
    room: 'lobby'
  }),
  /** About 2 KB. */
  document: i => ({
    id: id(i),
    version: i,
    items: Array.from({ length: 20 }, (_, n) => ({
      sku: id(i * 20 + n),
      name: sentence(i * 20 + n, 3),
      price: scramble(i * 20 + n) % 10_000 / 100,
      stock: scramble(n * i) % 500,
      open: n % 3 > 0
    }))
  })
}
