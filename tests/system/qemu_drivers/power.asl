/* A power meter (ACPI 6.5, 10.4), a battery (10.2) and a power adapter (10.3). Writing the meter's averaging interval sets the power
   that meter and battery say, in milliwatts. */
DefinitionBlock ("", "SSDT", 2, "TEST", "POWER", 1)
{
    Scope (\_SB)
    {
        Name (MWAT, 45000)
        Device (PMTR)
        {
            Name (_HID, "ACPI000D")
            Name (_PMC, Package (14)
            {
                1, 0, 0, 100000, 0, 1, 1000000, 0xFFFFFFFF, 0, 0, 0, "Model", "Serial", "Server input"
            })
            Name (_PMD, Package (0) {})
            Method (_PMM) { Return (MWAT) }
            Method (_GAI) { Return (MWAT) }
            Method (_PAI, 1)
            {
                MWAT = Arg0
                Return (0)
            }
        }
        Device (BAT0)
        {
            Name (_HID, EisaId ("PNP0C0A"))
            Name (_UID, 1)
            Name (_STA, 0x1F)
            /* In milliwatt-hours and millivolts. */
            Name (_BIF, Package (13) { 0, 50000, 48000, 1, 11100, 5000, 2500, 100, 100, "Model", "1", "LION", "Maker" })
            Name (PBST, Package (4) { 1, 0, 24000, 11500 })
            Method (_BST)
            {
                PBST [1] = MWAT
                Return (PBST)
            }
        }
        Device (ADP0)
        {
            Name (_HID, "ACPI0003")
            Method (_PSR) { Return (0) }
        }
    }
}
