import { answer } from '../answer.mjs'

/** Bytes of a message: its number, filler. */
const MESSAGE_BYTES = 128

/** Tells the benchmark where an instance listens, and lets it publish numbered messages. `publish` may reject. */
export function swapped (server, publish) {
  const publications = []
  let timer

  function publishNext () {
    const number = publications.length
    publications.push(publish(`${number}`.padEnd(MESSAGE_BYTES, '.')).then(() => true, () => false))
  }

  answer({
    port: () => server.address().port,

    /** At an even rate until `stop`. A turn that comes late sends all that are due. */
    start (rate) {
      const startedAt = performance.now()
      const first = publications.length
      timer = setInterval(() => {
        const due = first + 1 + Math.floor((performance.now() - startedAt) * rate / 1_000)
        while (publications.length < due) publishNext()
      }, 1)
    },

    burst (count) {
      for (let i = 0; i < count; i++) publishNext()
    },

    /** How many there were, and which of them the publisher knows to have failed. */
    async stop () {
      clearInterval(timer)
      const accepted = await Promise.all(publications)
      return { total: accepted.length, refused: accepted.flatMap((ok, number) => ok ? [] : [number]) }
    }
  })
}
