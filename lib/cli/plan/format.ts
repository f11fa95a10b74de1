/** `12,345`. */
export const count = (number: number) => Math.round(number).toLocaleString('en-US')

/** `12,345`, and two digits of what is below 10. */
export const rate = (number: number) => number < 10 ? String(Number(number.toPrecision(2))) : count(number)

/** `1 connection`, `2 connections`. */
export const counted = (number: number, noun: string) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`

/** `$12,345`, and `-` for what is not known. */
export function dollars (amount: number | undefined): string {
  if (amount === undefined) return '-'
  const rounded = Math.round(amount) + 0 // never -0
  return rounded < 0 ? `-$${count(-rounded)}` : `$${count(rounded)}`
}

/** `$0.0123`. */
export const smallDollars = (amount: number) => `$${amount < 0.1 ? amount.toPrecision(3) : amount.toFixed(3)}`

export const percent = (share: number) => `${rate(100 * share)}%`

/** Columns as wide as their widest cell: the first to the left, the others to the right. */
export function table (rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  const line = (row: readonly string[]) => row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join('  ')
  return rows.map(row => `  ${line(row)}`.trimEnd()).join('\n')
}

/** Lines of at most 100 characters, after `first` and below it. */
export function wrap (text: string, first: string): string {
  const lines = ['']
  for (const word of text.split(' ')) {
    const longer = `${lines.at(-1)} ${word}`.trimStart()
    if (longer.length + first.length <= 100) lines[lines.length - 1] = longer
    else lines.push(word)
  }
  return lines.map((line, i) => `${i === 0 ? first : ' '.repeat(first.length)}${line}`).join('\n')
}
