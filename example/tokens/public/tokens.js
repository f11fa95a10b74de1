/* global addEventListener, Centrifuge, crypto, history, location */
// The page's side of server.mjs: it shows the streams of one channel, whose name is in the page's address.

/** ms without a new part after which an answer without an end is resumed: its instance has crashed. */
const SILENCE = 5_000
/** px from the end of the conversation within which the page follows it. */
const NEAR = 80

const NOTES = { stopped: 'Stopped', failed: 'The answer failed', interrupted: 'Interrupted: another instance continues…' }
const STATES = { connecting: 'Connecting…', connected: 'Connected', disconnected: 'Not connected' }

const element = id => document.getElementById(id)
const log = element('log')

if (location.hash === '') history.replaceState(null, '', `#${crypto.randomUUID()}`)
const channel = `talk:${location.hash.slice(1)}`
element('second').href = location.href
element('new').addEventListener('click', event => {
  event.preventDefault()
  history.replaceState(null, '', `#${crypto.randomUUID()}`)
  location.reload()
})
addEventListener('hashchange', () => location.reload())

const centrifuge = new Centrifuge(`${location.origin.replace(/^http/, 'ws')}/connection/websocket`, { maxReconnectDelay: 3_000 })
for (const state of Object.keys(STATES)) centrifuge.on(state, () => showState(state))
const subscription = centrifuge.newSubscription(channel)
subscription.on('publication', ({ data }) => take(data))
subscription.subscribe()
centrifuge.connect()

/** The streams, by their ids: `q-…` are questions, `a-…` answers. */
const streams = new Map()

function take (part) {
  const stream = streams.get(part.stream) ?? addStream(part.stream)
  stream.text = stream.text.slice(0, part.from) + part.text
  stream.end = part.end
  stream.error = part.error
  stream.seenAt = Date.now()
  show(stream)
  if (part.end === 'interrupted') resume(stream)
}

function addStream (id) {
  const article = element('entry').content.firstElementChild.cloneNode(true)
  article.className = id.startsWith('q-') ? 'question' : 'answer'
  article.dataset.stream = id
  log.append(article)
  element('tip').hidden = true
  const stream = { id, text: '', end: undefined, error: undefined, seenAt: 0, article }
  streams.set(id, stream)
  return stream
}

function show ({ text, end, error, article }) {
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR
  article.querySelector('.text').textContent = text
  const note = article.querySelector('.note')
  note.textContent = error?.message ?? NOTES[end] ?? ''
  note.hidden = note.textContent === ''
  article.dataset.end = end ?? ''
  element('stop').hidden = unfinished().length === 0
  if (follows) log.scrollTop = log.scrollHeight
}

function unfinished () {
  return Array.from(streams.values()).filter(({ id, end }) => id.startsWith('a-') && (end === undefined || end === 'interrupted'))
}

async function call (method, data) {
  try {
    await centrifuge.rpc(method, { channel, ...data })
    element('notice').hidden = true
    return true
  } catch (error) {
    element('notice').textContent = error.message ?? 'That did not work. Try again'
    element('notice').hidden = false
    return false
  }
}

function resume (stream) {
  stream.seenAt = Date.now()
  centrifuge.rpc('talk.resume', { channel, id: stream.id.slice(2) }).catch(() => {}) // tried again after a while
}

setInterval(() => {
  for (const stream of unfinished()) if (Date.now() - stream.seenAt > SILENCE) resume(stream)
}, 1_000)

const question = element('question')
element('composer').addEventListener('submit', async event => {
  event.preventDefault()
  const text = question.value.trim()
  if (text === '') return
  question.value = ''
  log.scrollTop = log.scrollHeight
  if (!await call('talk.ask', { question: text }) && question.value === '') question.value = text
})
question.addEventListener('keydown', event => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
  event.preventDefault()
  element('composer').requestSubmit()
})
element('stop').addEventListener('click', () => {
  for (const { id } of unfinished()) call('talk.stop', { id: id.slice(2) })
})

function showState (state) {
  element('state').dataset.state = state
  element('state').querySelector('.text').textContent = STATES[state]
}
