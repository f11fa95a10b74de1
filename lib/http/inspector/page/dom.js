/* global document */
// What is shown of users, channels and payloads only ever goes in as text, never as HTML.

/** Everything of the page that has an id. */
export const page = Object.fromEntries(Array.from(document.querySelectorAll('[id]'), one => [one.id, one]))

/** An element with this text and these children. */
export function element (name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

/** Sets a text only if it is another one, so that screen readers and selections are left alone. */
export function setText (target, text) {
  if (target.textContent !== text) target.textContent = text
}

/**
 * Makes the children of `list` those of `items`, in this order. One whose key was there before stays, with its focus,
 * and is only updated.
 */
export function showList (list, items, keyOf, create, update) {
  const before = new Map(Array.from(list.children, child => [child.dataset.key, child]))
  let place = list.firstElementChild
  for (const item of items) {
    const key = keyOf(item)
    const known = before.get(key)
    const child = known ?? create(item)
    before.delete(key)
    child.dataset.key = key
    update(child, item)
    if (child === place) place = place.nextElementSibling
    else list.insertBefore(child, place)
  }
  for (const child of before.values()) child.remove()
}

/** A row of a table with so many cells; on a phone each shows its label. */
export function row (labels) {
  const made = element('tr', { role: 'row' })
  for (const label of labels) {
    const cell = element('td', { role: 'cell' })
    cell.dataset.label = label
    made.append(cell)
  }
  return made
}

/** Fills a cell again only if what it shows has changed. */
export function fill (cell, shown, build) {
  const signature = JSON.stringify(shown)
  if (cell.dataset.shown === signature) return
  cell.dataset.shown = signature
  cell.replaceChildren(...[build(shown)].flat())
}

/** The name of a user. */
export function userName (user) {
  return user === '' ? element('span', { className: 'anonymous', textContent: 'anonymous' }) : element('bdi', { textContent: user })
}

export function bytes (count) {
  if (count < 1_024) return `${count} B`
  const power = count < 1_048_576 ? 1 : count < 1_073_741_824 ? 2 : 3
  const value = count / 1_024 ** power
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${['KiB', 'MiB', 'GiB'][power - 1]}`
}

export function duration (ms) {
  const seconds = Math.max(0, Math.round(ms / 1_000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d`
}

export const number = new Intl.NumberFormat('en').format
