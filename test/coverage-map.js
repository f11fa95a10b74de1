// Tells tap of which test files it takes the coverage. These test the repository, its pages and whole systems, or run
// schedules by the hundred. What they cover others cover closer by, and counting makes them a third slower.
export default file => /^test\/(repository|docs|simulator)\//.test(file) ? null : []
