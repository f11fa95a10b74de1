/* global location */
// The page's side of server.mjs.

const [state, messages, form] = ['state', 'messages', 'form'].map(id => document.getElementById(id))
const FIRST_DELAY = 1_000 // ms
const MAX_DELAY = 10_000
const FACTOR = 1.3

let socket
let delay = FIRST_DELAY

function connect () {
  socket = new WebSocket(`${location.protocol.replace('http', 'ws')}//${location.host}/ws`)
  socket.onopen = () => {
    delay = FIRST_DELAY
    state.textContent = 'Connected'
    messages.replaceChildren() // the server sends the last ones again
  }
  socket.onmessage = ({ data }) => {
    const { type, name, text, time } = JSON.parse(data)
    // An error, or the notice that this instance is about to close: then onclose connects again.
    if (type !== undefined) return
    const item = document.createElement('li')
    item.textContent = `${new Date(time).toLocaleTimeString()} ${name}: ${text}`
    messages.append(item)
    item.scrollIntoView()
  }
  // By chance up to twice as late, so that the clients of one instance do not all come back at once.
  socket.onclose = () => {
    state.textContent = 'Connecting again …'
    setTimeout(connect, delay * (1 + Math.random()))
    delay = Math.min(delay * FACTOR, MAX_DELAY)
  }
}

form.onsubmit = (event) => {
  event.preventDefault()
  const { name, text } = form.elements
  // Only what left is taken out of the field; without a connection it stays there.
  if (socket.readyState !== WebSocket.OPEN) return
  socket.send(JSON.stringify({ name: name.value, text: text.value }))
  text.value = ''
}

connect()
