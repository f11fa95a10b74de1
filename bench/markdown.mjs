/** The first `texts` columns are on the left, as they are no numbers. */
export function printMarkdown (headings, rows, texts) {
  for (const cells of [headings, headings.map((_, i) => i < texts ? '---' : '---:'), ...rows]) console.log(`| ${cells.join(' | ')} |`)
}
