//! The GStreamer elements that recordings and captures are made with, and where Debian has them.

/// An element and its package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Name of the element's factory.
    pub name: &'static str,
    /// Debian package that brings it.
    pub package: &'static str,
    /// What does not work without it.
    pub needed_for: &'static str,
}

/// All of them.
pub const ELEMENTS: &[Element] = &[
    element("appsrc", BASE, "recordings and captures"),
    element("appsink", BASE, "captures"),
    element("webmmux", GOOD, "recordings"),
    element("filesink", CORE, "recordings"),
    element("filesrc", CORE, "completing recordings after a crash"),
    element("matroskademux", GOOD, "completing recordings after a crash"),
    element("vp8dec", GOOD, "captures"),
    element("vp8enc", GOOD, "the demonstration's participants"),
    element("opusenc", BASE, "the demonstration's participants"),
];

const CORE: &str = "libgstreamer1.0-0";
const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";

const fn element(name: &'static str, package: &'static str, needed_for: &'static str) -> Element {
    Element {
        name,
        package,
        needed_for,
    }
}

/// The elements that are not installed. Blocks while GStreamer looks at its plug-ins: run it off the runtime.
///
/// # Errors
/// When GStreamer itself does not start.
pub fn missing() -> Result<Vec<Element>, gstreamer::glib::Error> {
    gstreamer::init()?;
    Ok(ELEMENTS
        .iter()
        .copied()
        .filter(|element| gstreamer::ElementFactory::find(element.name).is_none())
        .collect())
}
