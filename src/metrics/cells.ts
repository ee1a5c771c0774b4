/** Adds to one cell. */
export function addTo(cells: Float64Array, at: number, by: number): void {
  cells[at] = (cells[at] as number) + by;
}
