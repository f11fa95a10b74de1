/* global addEventListener, document, FormData, location */
// Asks the server every two seconds for what is on the screen, and for no more.
import { bytes, duration, element, fill, number, page, row, setText, showList, userName } from './dom.js'
import { addressOf, place, post, view } from './questions.js'

/** ms between an answer and the next question, and at most while questions fail. */
const INTERVAL = 2_000
const MAX_INTERVAL = 15_000
/** ms that a notice stays. */
const NOTICE_TIME = 8_000

let timer
let round = 0
let failures = 0
let paused = false
/** The row that the dialog is about. */
let chosen

// What is asked

async function refresh () {
  clearTimeout(timer)
  const mine = ++round
  try {
    const answer = await post('view', view())
    if (mine !== round) return
    failures = 0
    page.failed.hidden = true
    show(answer)
  } catch (error) {
    if (mine !== round) return
    failures++
    showFailure(error)
  }
  wait()
}

/** A page that nobody sees asks nothing. */
function wait () {
  clearTimeout(timer)
  if (paused || document.hidden) return
  timer = setTimeout(refresh, Math.min(INTERVAL * 2 ** failures, MAX_INTERVAL))
}

// What is shown

function showState (state, text) {
  page.state.dataset.state = state
  setText(page.state.querySelector('.text'), text)
}

function showFailure ({ status, code, message }) {
  showState('failed', 'No answer')
  const login = status === 401 || status === 403 ? ' Reload this page to log in.' : ''
  page.failed.hidden = false
  setText(page.failed, `${message}${code === undefined ? '' : ` (${code})`}.${login}`)
}

function show (overview) {
  const { alone, missing, instances, instance } = overview
  showState(alone ? 'alone' : paused ? 'paused' : 'live', alone ? 'One instance' : paused ? 'Paused' : 'Live')
  page.alone.hidden = !alone
  if (alone) setText(page.alone, `The other instances cannot be asked, so this page shows only instance ${instance}: ${alone.message} (${alone.code})`)
  page.missing.hidden = missing.length === 0
  setText(page.missing, `No answer from ${missing.join(', ')}: crashed, overloaded, or running another release`)
  setText(page['instances-count'], number(instances.length))
  showList(page.instances, instances, one => one.instance, newInstance, (row, one) => showInstance(row, one, instance))
  showInstanceChoice(instances)
  const { show, name } = place()
  if (show === 'channels') showChannels(overview)
  else showConnections(overview)
  if (show === 'channel') showPublications(overview, name)
}

const newInstance = () => row(['Instance', 'Revision', 'Connections', 'Channels', 'Up for', 'Memory'])

function showInstance ({ cells }, one, own) {
  fill(cells[0], [one.instance, one.instance === own], ([id, self]) => element('span', {},
    element('code', { textContent: id }), ...(self ? [' ', element('span', { className: 'self', textContent: 'answers you' })] : [])))
  const texts = [one.revision || '–', number(one.connections), number(one.channels), duration(one.uptime * 1_000), bytes(one.memory)]
  texts.forEach((text, i) => setText(cells[i + 1], text))
}

/** One that is chosen stays in the list, also when it is gone. */
function showInstanceChoice (instances) {
  const { instance: select } = page['connections-filter'].elements
  const ids = Array.from(new Set(['', ...instances.map(({ instance }) => instance), select.value]))
  showList(select, ids, id => id, id => element('option', { value: id, textContent: id || 'any' }), () => {})
}

const newConnection = () => {
  const made = row(['User', 'Instance', 'Age', 'Channels', 'Buffered', 'Received', 'Sent', ''])
  made.cells[7].className = 'actions'
  const button = element('button', { type: 'button', className: 'danger', textContent: 'Disconnect' })
  button.addEventListener('click', () => ask(made.connection))
  made.cells[7].append(button)
  return made
}

function showConnection (made, connection) {
  made.connection = connection
  const { client, user, userCut, identified, instance, protocol, age, channels, channelCount } = connection
  const { cells } = made
  fill(cells[0], [user, userCut, identified, client], () => [element('span', {},
    identified ? userName(user) : element('span', { className: 'anonymous', textContent: 'not connected yet' }),
    userCut ? '…' : '', element('code', { className: 'second', textContent: client }))])
  fill(cells[1], [instance, protocol], () => [element('span', {}, element('code', { textContent: instance }), element('span', { className: 'second', textContent: protocol }))])
  setText(cells[2], duration(age))
  fill(cells[3], [channels, channelCount], () => [element('span', { className: 'channels' },
    ...channels.map(channelLink), channelCount > channels.length ? `and ${number(channelCount - channels.length)} more` : channelCount === 0 ? '–' : '')])
  setText(cells[4], bytes(connection.buffered))
  fill(cells[5], [connection.received, connection.bytesReceived], traffic)
  fill(cells[6], [connection.sent, connection.bytesSent], traffic)
  cells[7].firstElementChild.ariaLabel = `Disconnect client ${client} of ${user === '' ? 'an anonymous user' : `user ${user}`}`
}

const traffic = ([messages, size]) => element('span', {}, number(messages), element('span', { className: 'second', textContent: bytes(size) }))

function channelLink (channel) {
  return element('a', { href: addressOf(channel) }, element('bdi', { textContent: channel }))
}

function showConnections ({ connections, matching }) {
  setText(page['connections-count'], connections.length < matching ? `${number(connections.length)} of ${number(matching)}` : number(matching))
  page['connections-none'].hidden = connections.length > 0
  showList(page.connections, connections, ({ instance, client }) => `${instance} ${client}`, newConnection, showConnection)
}

function showChannels ({ channels, more }) {
  setText(page['channels-count'], number(channels.length))
  page['channels-more'].hidden = !more
  page['channels-none'].hidden = channels.length > 0
  showList(page.channels, channels, ({ channel }) => channel, () => row(['Channel', 'Clients', 'Instances']), ({ cells }, { channel, clients, instances }) => {
    fill(cells[0], channel, channelLink)
    setText(cells[1], number(clients))
    setText(cells[2], number(instances))
  })
}

function showPublications ({ publications: { kept, rows, failed } }, name) {
  const none = failed ? `The publications cannot be read: ${failed.message} (${failed.code})` : kept ? 'The history is empty now.' : 'The namespace of this channel keeps no history.'
  page['publications-none'].hidden = rows.length > 0
  setText(page['publications-none'], none)
  showList(page.publications, rows, ({ offset, time }) => `${name} ${offset} ${time}`, newPublication, () => {})
}

function newPublication ({ offset, time, kind, shown, bytes: size, user, client, instance }) {
  const when = new Date(time)
  return element('li', {},
    element('p', { className: 'about' },
      element('span', { textContent: `offset ${number(offset)}` }),
      element('time', { dateTime: when.toISOString(), textContent: when.toLocaleString() }),
      element('span', {}, 'by ', ...(client === undefined ? ['your app on ', element('code', { textContent: instance })] : [userName(user)])),
      element('span', { textContent: `${kind}, ${bytes(size)}` })),
    element('pre', { className: 'mono', textContent: size > shown.length && kind !== 'binary' ? `${shown}…` : shown }))
}

/** Another view, or another channel. */
function showPlace () {
  const { show, name } = place()
  page['channels-view'].hidden = show !== 'channels'
  page['channel-view'].hidden = show !== 'channel'
  page['connections-view'].hidden = show === 'channels'
  for (const label of document.querySelectorAll('.not-in-channel')) label.hidden = show === 'channel'
  for (const [link, shows] of [['to-connections', show === 'connections'], ['to-channels', show !== 'connections']]) page[link].ariaCurrent = shows ? 'page' : null
  setText(page['connections-word'], show === 'channel' ? 'Who is in it' : 'Connections')
  setText(page['channel-name'], name ?? '')
  setText(page.published, '')
  document.title = `${name ?? (show === 'channels' ? 'Channels' : 'Connections')} · Inspector`
  for (const list of [page.connections, page.channels, page.publications]) list.replaceChildren()
  if (show === 'channel') page['channel-title'].focus()
  refresh()
}

// What is done

let doneTimer
function tell (text) {
  page.done.hidden = false
  setText(page.done, text)
  clearTimeout(doneTimer)
  doneTimer = setTimeout(() => { page.done.hidden = true }, NOTICE_TIME)
}

function ask (connection) {
  chosen = connection
  page['confirm-user'].replaceChildren(userName(connection.user))
  page['confirm-client'].textContent = connection.client
  page['confirm-all'].hidden = connection.user === '' || connection.userCut
  page.confirm.returnValue = ''
  page.confirm.showModal()
}

page.confirm.addEventListener('close', async () => {
  const kind = page.confirm.returnValue
  if (kind === '') return
  const { client, user } = chosen
  try {
    await post('disconnect', kind === 'user' ? { user } : { client })
    tell(kind === 'user' ? `Every connection of ${user} is being closed.` : `Client ${client} is being closed.`)
  } catch ({ message, code }) {
    tell(`Not disconnected: ${message}${code === undefined ? '' : ` (${code})`}`)
  }
  refresh()
})

page.publish.addEventListener('submit', async (event) => {
  event.preventDefault()
  const { data, kind } = Object.fromEntries(new FormData(page.publish))
  try {
    const { offset } = await post('publish', { channel: place().name, data: kind === 'text' ? data : parse(data) })
    showPublished('', offset === undefined ? 'Published.' : `Published at offset ${number(offset)}.`)
    page.data.value = ''
  } catch ({ message, code }) {
    showPublished('failed', `Not published: ${message}${code === undefined ? '' : ` (${code})`}`)
  }
  refresh()
})

function parse (text) {
  try {
    return JSON.parse(text)
  } catch ({ message }) {
    throw new Error(`this is not JSON: ${message}. To publish it as it is, choose text`)
  }
}

function showPublished (state, text) {
  page.published.dataset.state = state
  setText(page.published, text)
}

page.open.addEventListener('submit', (event) => {
  event.preventDefault()
  location.hash = addressOf(page.open.elements.name.value)
  page.open.reset()
})

for (const form of [page['connections-filter'], page['channels-filter']]) {
  form.addEventListener('submit', event => event.preventDefault())
  form.addEventListener('input', () => {
    clearTimeout(timer)
    timer = setTimeout(refresh, 200) // until the typing ends
  })
  form.addEventListener('reset', () => setTimeout(refresh))
}

page.pause.addEventListener('click', () => {
  paused = !paused
  page.pause.ariaPressed = String(paused)
  if (paused) showState('paused', 'Paused')
  if (paused) wait()
  else refresh()
})
document.addEventListener('visibilitychange', () => document.hidden ? wait() : paused || refresh())
addEventListener('hashchange', showPlace)
showPlace()
