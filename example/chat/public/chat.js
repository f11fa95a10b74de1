/* global addEventListener, Centrifuge, CSS, history, location, matchMedia, ResizeObserver */
// The page's side of server.mjs. First the connection, which is the SDK's work; then what is seen of it.
import { cleanTitle, roomName } from './room-name.js'

/** Messages that are loaded of a room, and those that stay on the page. */
const LOADED = 50
const MAX_SHOWN = 500
/** People of one room that are named; the others are only counted. */
const MAX_NAMED = 100
/** ms within which messages of one person stand together. */
const TOGETHER = 300_000
/** ms between two signs that I am typing, and for which somebody else's is shown. */
const TYPING_INTERVAL = 2_000
const TYPING_SHOWN = 3_000
/** ms between two looks at who is here: events say who comes and goes, but not whose instance has crashed. */
const PEOPLE_INTERVAL = 30_000
/** ms that a notice stays, and after which something is tried again. */
const NOTICE_TIME = 10_000
const RETRY_DELAY = 1_000
/** Close code: the server has another secret than the one that signed my token. */
const INVALID_TOKEN = 3500
/** Places in a room: offsets of the first epoch, then those of the next, and last what the server has not stored. */
const ERA = 2 ** 40
const NOT_STORED = Infinity

let storage = {}
try {
  storage = localStorage
} catch {} // it is turned off: everything works until the page is closed

/** The server knows me again by the token that it gave me last, so all windows of this browser are one person. */
const me = { user: storage['chat.user'], token: storage['chat.token'], name: cleanName(storage['chat.name'] ?? '') }

/** The rooms I am in, by name, and the titles of those there are. */
const rooms = new Map()
const titles = new Map()
let current = ''
let instance = ''

// The connection

// The first of these that gets through: some proxies block WebSockets.
const transports = [
  { transport: 'websocket', endpoint: `${location.origin.replace(/^http/, 'ws')}/connection/websocket` },
  { transport: 'http_stream', endpoint: `${location.origin}/connection/http_stream` },
  { transport: 'sse', endpoint: `${location.origin}/connection/sse` }
]
const centrifuge = new Centrifuge(transports, { getToken, maxReconnectDelay: 10_000 })

centrifuge.on('connecting', () => showState(instance === '' ? 'connecting' : 'reconnecting'))
centrifuge.on('connected', ({ data, transport }) => {
  instance = data.instance
  showState('connected', transportNames[transport])
  addTitles(data.rooms.map(room => ({ room, title: room })))
})
centrifuge.on('disconnected', ({ code }) => {
  if (code === INVALID_TOKEN) setTimeout(connectAnew, RETRY_DELAY)
  else if (code !== 0) showState('stopped')
})

async function getToken () {
  const body = JSON.stringify({ name: me.name, token: me.token })
  const response = await fetch('token', { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  if (!response.ok) throw new Error(`the server answered ${response.status}`)
  Object.assign(me, await response.json())
  storage['chat.user'] = me.user
  storage['chat.token'] = me.token
  showMe()
  return me.token
}

/** With a new token. */
function connectAnew () {
  centrifuge.disconnect()
  centrifuge.setToken('')
  centrifuge.connect()
}

/**
 * The answer, whenever it comes: what the connection or the server can not do now is tried again.
 * @throws what the server refuses, and if I leave.
 */
async function insist (subscription, call) {
  for (;;) {
    try {
      await subscription.ready()
      return await call()
    } catch (error) {
      if (subscription.state === 'unsubscribed' || (error.code >= 100 && !error.temporary)) throw error
      if (subscription.state === 'subscribed') await new Promise(resolve => setTimeout(resolve, RETRY_DELAY * (0.5 + Math.random())))
    }
  }
}

const lobby = centrifuge.newSubscription('lobby:rooms')
lobby.on('publication', ({ data }) => addTitles([data]))
lobby.on('subscribed', async ({ recovered }) => {
  if (recovered) return
  const { publications } = await insist(lobby, () => lobby.history({ limit: 100 }))
  addTitles(publications.map(({ data }) => data))
})
lobby.subscribe()

function newRoom (name) {
  const subscription = centrifuge.newSubscription(`room:${name}`, { data: { title: titleOf(name) } })
  const typing = centrifuge.newSubscription(`typing:${name}`)
  // `shown` has every message by its id, `people` everyone by connection. `outbox` has my messages that the server has
  // not confirmed, oldest first.
  const room = { name, subscription, typing, epoch: '', era: 0, shown: new Map(), outbox: [], sending: false, people: new Map(), changes: [], typists: new Map(), unread: 0, draft: '', bottom: true, top: 0 }
  room.list = element('ol')
  room.list.hidden = true
  room.list.ariaBusy = 'true' // a screen reader need not read out the history
  page.log.append(room.list)
  rooms.set(name, room)

  subscription.on('subscribed', ({ streamPosition: { epoch }, recovered, wasRecovering }) => {
    if (wasRecovering && !recovered) showNote(room, 'Messages from while you were away may be missing here.')
    if (epoch !== room.epoch) room.era++
    room.epoch = epoch
    if (!recovered) loadMessages(room).catch(() => {}) // I have left
    loadPeople(room).catch(() => {})
  })
  subscription.on('publication', publication => receive(room, publication, true))
  subscription.on('join', ({ info }) => changePeople(room, people => people.set(info.client, info)))
  subscription.on('leave', ({ info }) => changePeople(room, people => people.delete(info.client)))
  subscription.on('unsubscribed', ({ code, reason }) => {
    if (code === 0) return // that was me
    leave(room)
    showNotice(`${titleOf(name)}: ${reason}`)
  })
  typing.on('publication', ({ data: { user, name } }) => {
    if (user === me.user) return
    room.typists.set(user, { name, until: Date.now() + TYPING_SHOWN })
    showTyping(room)
    setTimeout(showTyping, TYPING_SHOWN + 100, room)
  })
  subscription.subscribe()
  return room
}

/** What was said before I came, or while I was away for too long. */
async function loadMessages (room) {
  const { publications, epoch } = await insist(room.subscription, () => room.subscription.history({ limit: LOADED, reverse: true }))
  if (epoch !== room.epoch) return // it has begun anew, and so will the subscription
  for (const publication of publications.reverse()) receive(room, publication, false)
  room.list.ariaBusy = null
}

async function loadPeople (room) {
  const changes = room.changes = []
  const { clients } = await insist(room.subscription, () => room.subscription.presence())
  room.people = new Map(Object.entries(clients))
  for (const change of changes) change(room.people) // what happened meanwhile is newer than the answer may be
  showPeople(room)
}

function changePeople (room, change) {
  room.changes.push(change)
  change(room.people)
  showPeople(room)
}

setInterval(() => {
  for (const room of rooms.values()) if (room.subscription.state === 'subscribed') loadPeople(room).catch(() => {})
}, PEOPLE_INTERVAL)

/** One by one, so that the order stays whatever fails; the id makes it harmless to send one again. */
async function sendAll (room) {
  if (room.sending) return
  room.sending = true
  while (room.outbox.length > 0) {
    const [message] = room.outbox
    try {
      await insist(room.subscription, () => room.subscription.publish(message))
      setStatus(room.shown.get(message.id), '')
    } catch (error) {
      setStatus(room.shown.get(message.id), 'failed', `Not sent: ${error.message}`)
    }
    delivered(room, message.id)
  }
  room.sending = false
}

function delivered (room, id) {
  room.outbox = room.outbox.filter(message => message.id !== id)
}

let typedAt = 0
function tellTyping () {
  const { typing } = rooms.get(current)
  if (typing.state !== 'subscribed' || Date.now() - typedAt < TYPING_INTERVAL) return
  typedAt = Date.now()
  typing.publish({}).catch(() => {}) // the next one will do
}

// The page. What people wrote only ever goes in as text, never as HTML.

const $ = selector => document.querySelector(selector)
/** Everything that has an id. */
const page = Object.fromEntries(Array.from(document.querySelectorAll('[id]'), one => [one.id, one]))
const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' })
const longDay = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' })
const enumeration = new Intl.ListFormat('en')
const transportNames = { websocket: 'WebSocket', http_stream: 'HTTP streaming', sse: 'server-sent events' }
const stateTexts = { connecting: 'Connecting…', connected: 'Connected', reconnecting: 'Reconnecting…', stopped: 'Disconnected' }

function fromTemplate (id) {
  return page[id].content.firstElementChild.cloneNode(true)
}

function element (name, className = '', text = '') {
  return Object.assign(document.createElement(name), { className, textContent: text })
}

/** `transport`: by which way it is connected. */
function showState (state, transport = '') {
  const byHttp = state === 'connected' && transport !== transportNames.websocket
  page.state.dataset.state = state
  page.state.querySelector('.text').textContent = byHttp ? `Connected by ${transport}` : stateTexts[state]
  page.about.querySelector('.text').textContent = state === 'connected' ? `Connected by ${transport} to the instance` : 'Not connected'
  page.about.querySelector('.instance').textContent = state === 'connected' ? instance : ''
  page.reconnect.hidden = state !== 'stopped'
}

let noticeTimer
function showNotice (text) {
  page.notice.textContent = text
  page.notice.hidden = false
  clearTimeout(noticeTimer)
  noticeTimer = setTimeout(() => { page.notice.hidden = true }, NOTICE_TIME)
}

// Rooms

function open (name) {
  const last = rooms.get(current)
  if (last) {
    Object.assign(last, { draft: page.text.value, top: page.log.scrollTop })
    last.list.hidden = true
    last.typing.unsubscribe()
  }
  current = name
  const room = rooms.get(name) ?? newRoom(name)
  room.unread = 0
  room.list.hidden = false
  room.typing.subscribe()
  page.text.value = room.draft
  if (location.hash !== `#/${name}`) history.replaceState(null, '', `#/${name}`)
  page.log.scrollTop = room.bottom ? page.log.scrollHeight : room.top
  page.newest.hidden = room.bottom
  showPeople(room)
  showTyping(room)
  showRooms()
}

function leave (room) {
  rooms.delete(room.name)
  room.outbox = []
  room.list.remove()
  centrifuge.removeSubscription(room.subscription)
  centrifuge.removeSubscription(room.typing)
  if (room.name !== current) return showRooms()
  current = ''
  open(rooms.keys().next().value ?? 'general')
}

function titleOf (name) {
  return titles.get(name) ?? name
}

function addTitles (list) {
  for (const { room, title } of list) titles.set(room, title)
  showRooms()
}

function showRooms () {
  const focused = document.activeElement?.closest?.('.room')?.dataset.room
  page.rooms.replaceChildren(...Array.from(new Set([...titles.keys(), ...rooms.keys()]), name => {
    const item = fromTemplate('room')
    const button = item.firstElementChild
    const { unread = 0 } = rooms.get(name) ?? {}
    button.dataset.room = name
    button.classList.toggle('joined', rooms.has(name))
    button.classList.toggle('has-unread', unread > 0)
    if (name === current) button.ariaCurrent = 'page'
    button.querySelector('.name').textContent = titleOf(name)
    const badge = button.querySelector('.unread')
    badge.hidden = unread === 0
    badge.textContent = unread > 99 ? '99+' : unread
    badge.ariaLabel = `${unread} unread`
    return item
  }))
  if (focused !== undefined) page.rooms.querySelector(`[data-room="${CSS.escape(focused)}"]`)?.focus()
  const unread = Array.from(rooms.values()).reduce((sum, room) => sum + room.unread, 0)
  page['unread-elsewhere'].hidden = unread === 0
  page.leave.hidden = rooms.size < 2
  const title = titleOf(current)
  page['room-name'].textContent = `# ${title}`
  page.log.ariaLabel = `Messages in ${title}`
  page.text.placeholder = `Message #${title}`
  page.leave.ariaLabel = `Leave ${title}`
  document.title = `${unread > 0 ? `(${unread}) ` : ''}${title} · Chat`
  storage['chat.rooms'] = Array.from(rooms.keys(), titleOf).join('\n')
}

// People

/** As the server wants it. */
function cleanName (text) {
  return Array.from(text.replace(/\p{C}/gu, '').replace(/\s+/g, ' ')).slice(0, 32).join('').trim()
}

/** The colour follows the name: a server without TOKEN_SECRET gives everybody a new id when it starts again. */
function showAvatar (element, name) {
  let hash = 0
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) % 360
  element.style.setProperty('--hue', hash * 47 % 360)
  const words = name.split(/\s+/)
  element.textContent = [words[0], words.length > 1 ? words.at(-1) : ''].map(word => Array.from(word)[0] ?? '').join('').toUpperCase()
}

/** Presence has an entry for every connection; people are shown once, however many windows they have open. */
function showPeople (room) {
  if (room.name !== current) return
  const names = new Map(Array.from(room.people.values(), ({ user, connInfo }) => [user, connInfo.name]))
  const people = Array.from(names).sort(([userA, a], [userB, b]) => a.localeCompare(b) || (userA < userB ? -1 : 1))
  page.people.replaceChildren(...people.slice(0, MAX_NAMED).map(([user, name]) => {
    const item = fromTemplate('person')
    showAvatar(item.querySelector('.avatar'), name)
    item.querySelector('.name').textContent = name
    if (user === me.user) item.append(element('span', 'you', 'you'))
    return item
  }))
  if (people.length > MAX_NAMED) page.people.append(element('li', 'person more', `and ${people.length - MAX_NAMED} more`))
  for (const count of document.querySelectorAll('#show-people .count, #people-panel .count')) count.textContent = people.length
  page['show-people'].ariaLabel = `People in this room: ${people.length}`
}

function showTyping (room) {
  if (room.name !== current) return
  const names = Array.from(room.typists.values()).filter(({ until }) => until > Date.now()).map(({ name }) => name)
  const who = names.length > 3 ? 'Several people' : enumeration.format(names)
  page.typing.textContent = names.length === 0 ? '' : `${who} ${names.length === 1 ? 'is' : 'are'} typing…`
}

function showMe () {
  showAvatar($('#me .avatar'), me.name)
  $('#me .name').textContent = me.name
}

// Messages

/** One that the server has stored. `live`: it comes now, not out of the history. */
function receive (room, { data: message, offset }, live) {
  const { user, id, time } = message
  let item = room.shown.get(id)
  if (item && item.place !== NOT_STORED) return
  if (!item && live && user !== me.user && (room.name !== current || document.hidden)) {
    room.unread++
    showRooms()
  }
  item ??= newMessage(room, message)
  delivered(room, id)
  setStatus(item, '')
  showTime(item, time)
  put(room, item, room.era * ERA + offset)
  room.typists.delete(user)
  showTyping(room)
}

function newMessage (room, { id, user, name, text, time }) {
  const item = fromTemplate('message')
  Object.assign(item.dataset, { id, user })
  item.classList.toggle('own', user === me.user)
  showAvatar(item.querySelector('.avatar'), name)
  item.querySelector('.name').textContent = name
  item.querySelector('.text').append(...withLinks(text))
  showTime(item, time)
  room.shown.set(id, item)
  return item
}

/** An address in a text, without what follows it: the full stop of a sentence, or the bracket that it stands in. */
const ADDRESS = /(\bhttps?:\/\/(?:\([^\s()]*\)|[^\s<>"()])*(?:\([^\s()]*\)|[^\s<>"().,:;!?']))/i

/** The text, with its addresses as links. */
function withLinks (text) {
  return text.split(ADDRESS).map((part, i) => {
    if (i % 2 === 0 || !URL.canParse(part)) return part
    return Object.assign(element('a', '', part), { href: part, target: '_blank', rel: 'noopener noreferrer' })
  })
}

function showTime (item, time) {
  const element = item.querySelector('time')
  item.dataset.time = time
  element.dateTime = new Date(time).toISOString()
  element.textContent = clock.format(time)
}

/** `state`: 'pending', 'failed', or '' for a message that is there. */
function setStatus (item, state, text = '') {
  if (!item) return
  item.classList.toggle('pending', state === 'pending')
  item.classList.toggle('failed', state === 'failed')
  item.querySelector('.status').textContent = text
}

/** Who reads older messages is not pulled away from them. */
function put (room, item, place) {
  item.place = place
  let before = room.list.lastElementChild
  while (before && (before === item || before.place > place)) before = before.previousElementSibling
  const next = before ? before.nextElementSibling : room.list.firstElementChild
  if (next !== item) room.list.insertBefore(item, next)
  if (room.list.children.length > MAX_SHOWN) {
    room.shown.delete(room.list.firstElementChild.dataset.id)
    room.list.firstElementChild.remove()
  }
  for (const one of [item, nextMessage(item, 'nextElementSibling'), nextMessage(room.list, 'firstElementChild')]) arrange(one)
  if (room.name !== current) return
  if (room.bottom) page.log.scrollTop = page.log.scrollHeight
  page.newest.hidden = room.bottom
}

/** Starts a day, or a group of one person's messages, or goes on with one. */
function arrange (item) {
  if (!item?.dataset.time) return
  const before = nextMessage(item, 'previousElementSibling')
  const time = Number(item.dataset.time)
  const day = dayOf(time)
  const newDay = !before || dayOf(Number(before.dataset.time)) !== day
  const noteBetween = before !== item.previousElementSibling
  const sameName = before?.querySelector('.name')?.textContent === item.querySelector('.name').textContent
  if (newDay) item.dataset.day = day
  else delete item.dataset.day
  item.classList.toggle('follows', !newDay && !noteBetween && sameName && before.dataset.user === item.dataset.user && time - before.dataset.time < TOGETHER)
}

/** Notes stand between messages without parting them. */
function nextMessage (from, direction) {
  let item = from[direction]
  while (item && !item.dataset.time) item = item[direction === 'firstElementChild' ? 'nextElementSibling' : direction]
  return item
}

function dayOf (time) {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(time).setHours(0, 0, 0, 0)) / 86_400_000)
  return ['Today', 'Yesterday'][days] ?? longDay.format(time)
}

function showNote (room, text) {
  const last = Array.from(room.list.children).findLast(({ place }) => place !== NOT_STORED)
  put(room, element('li', 'note', text), last?.place ?? 0)
}

function write (text) {
  const room = rooms.get(current)
  /** Unlike crypto.randomUUID this also works over plain http from another machine. */
  const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), byte => byte.toString(16).padStart(2, '0')).join('')
  const item = newMessage(room, { ...me, id, text, time: Date.now() })
  setStatus(item, 'pending', centrifuge.state === 'connected' ? '' : 'waits for the connection')
  room.bottom = true
  put(room, item, NOT_STORED)
  room.outbox.push({ id, text })
  sendAll(room)
}

// What people do

page.log.addEventListener('scroll', () => {
  const room = rooms.get(current)
  if (!room) return
  room.bottom = page.log.scrollHeight - page.log.scrollTop - page.log.clientHeight < 40
  page.newest.hidden = room.bottom
}, { passive: true })

page.newest.addEventListener('click', () => {
  page.log.scrollTop = page.log.scrollHeight
  page.text.focus()
})

new ResizeObserver(() => { if (rooms.get(current)?.bottom) page.log.scrollTop = page.log.scrollHeight }).observe(page.log)

page.composer.addEventListener('submit', event => {
  event.preventDefault()
  const text = page.text.value.trim()
  page.text.value = ''
  if (text !== '') write(text)
  typedAt = 0 // with the message the others have taken my sign away: the next one need not wait
  page.text.focus()
})

page.text.addEventListener('input', tellTyping)
page.text.addEventListener('keydown', event => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
  event.preventDefault()
  page.composer.requestSubmit()
})

function openFromPanel (name) {
  open(name)
  closePanel()
  page.text.focus()
}

page.rooms.addEventListener('click', event => {
  const button = event.target.closest('.room')
  if (button) openFromPanel(button.dataset.room)
})

page.leave.addEventListener('click', () => {
  leave(rooms.get(current))
  page['room-name'].focus()
})

page['new-room'].addEventListener('submit', event => {
  event.preventDefault()
  const input = page['new-room-name']
  const title = cleanTitle(input.value)
  const name = roomName(title)
  input.setCustomValidity(name === '' ? 'Use letters or digits' : '')
  if (!input.reportValidity()) return
  input.value = ''
  if (!titles.has(name)) titles.set(name, title)
  openFromPanel(name)
})
page['new-room-name'].addEventListener('input', event => event.target.setCustomValidity(''))

addEventListener('hashchange', () => {
  const name = roomFromHash()
  if (name !== '' && name !== current) open(name)
})

document.addEventListener('visibilitychange', () => {
  const room = rooms.get(current)
  if (document.hidden || !room) return
  room.unread = 0
  showRooms()
})

function roomFromHash () {
  try {
    return location.hash.startsWith('#/') ? roomName(decodeURIComponent(location.hash.slice(2))) : ''
  } catch {
    return '' // not a name that this page has made
  }
}

// On small windows rooms and people come in from the side.

function openPanel (id) {
  $('.app').dataset.open = id
  $(`[aria-controls=${id}]`).ariaExpanded = 'true'
  $('main').inert = true
  $(`#${id} button, #${id} [tabindex]`)?.focus()
}

function closePanel () {
  const { open: id } = $('.app').dataset
  if (id === undefined) return
  delete $('.app').dataset.open
  $('main').inert = false
  const button = $(`[aria-controls=${id}]`)
  button.ariaExpanded = 'false'
  button.focus()
}

for (const button of document.querySelectorAll('[aria-controls]')) {
  button.addEventListener('click', () => openPanel(button.getAttribute('aria-controls')))
}
for (const width of [721, 1041]) matchMedia(`(min-width: ${width}px)`).addEventListener('change', closePanel)
page.veil.addEventListener('click', closePanel)
addEventListener('keydown', event => { if (event.key === 'Escape') closePanel() })

// The tip

page.tip.hidden = storage['chat.tip'] === 'hidden'
page['hide-tip'].addEventListener('click', () => {
  storage['chat.tip'] = 'hidden'
  page.tip.hidden = true
  page.text.focus()
})

// My name

function askName () {
  page.name.value = me.name
  page['name-dialog'].showModal()
  page.name.select()
}

page['name-dialog'].addEventListener('cancel', event => { if (me.name === '') event.preventDefault() })
page['name-dialog'].addEventListener('close', () => page.text.focus())
page['name-dialog'].addEventListener('submit', event => {
  const name = cleanName(page.name.value)
  if (name === '') {
    event.preventDefault()
    page.name.value = ''
    return page.name.reportValidity()
  }
  if (name === me.name) return
  me.name = storage['chat.name'] = name
  showMe()
  connectAnew()
})
page.me.addEventListener('click', askName)
page.reconnect.addEventListener('click', () => centrifuge.connect())

// Start

for (const title of (storage['chat.rooms'] ?? '').split('\n')) {
  const name = roomName(title)
  if (name === '' || rooms.has(name)) continue
  titles.set(name, title)
  newRoom(name)
}
open(roomFromHash() || rooms.keys().next().value || 'general')
if (me.name === '') {
  askName()
} else {
  showMe()
  centrifuge.connect()
  page.text.focus()
}
