/** A count and what is counted: `1 guest`, `2 guests`. */
export const plural = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
