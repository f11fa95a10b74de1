export function sum (rows, name) {
  return rows.reduce((total, row) => total + row[name], 0)
}

export function median (values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

export function format (number) {
  return number.toLocaleString('en-US')
}

/** Whole numbers from ten on. NaN, for what never came, is a dash. */
export function milliseconds (ms) {
  if (Number.isNaN(ms)) return '-'
  return ms < 10 ? ms.toFixed(1) : format(Math.round(ms))
}

export function list (text) {
  return text.split(',').filter(item => item !== '')
}
