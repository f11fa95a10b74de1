import { parseArgs } from 'node:util'

/**
 * What the command line says, else with --quick what is in `quick`, else `defaults`. Where the default is a number so
 * is the value.
 */
export function readOptions (defaults, quick) {
  const texts = Object.keys(defaults).map(name => [name, { type: 'string' }])
  const { values: { quick: isQuick = false, ...given } } = parseArgs({ options: { quick: { type: 'boolean' }, ...Object.fromEntries(texts) } })
  const numbers = Object.entries(given).filter(([name]) => typeof defaults[name] === 'number').map(([name, text]) => [name, toNumber(name, text)])
  return { ...defaults, ...isQuick && quick, ...given, ...Object.fromEntries(numbers), quick: isQuick }
}

function toNumber (name, text) {
  const number = Number(text)
  if (text === '' || !(number >= 0)) throw new Error(`--${name} ${text} is no number`)
  return number
}
